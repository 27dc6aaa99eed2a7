/* alert_tally.c - what many alerts come to. */
#include "alert/alert_tally.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY 0
#define GONE  UINT16_MAX /* a problem that had to make room: those behind it in the row are still to be found */

void alert_tally_clear(struct alert_tally *t)
{
    memset(t, 0, sizeof *t);
}

static int level(const PB(Alert) * a)
{
    return (int)a->severity > 0 && (int)a->severity < ALERT_TALLY_LEVELS ? (int)a->severity : 0;
}

static size_t home(const unsigned char key[static 16])
{
    return ((size_t)key[0] | (size_t)key[1] << 8) % ALERT_TALLY_SLOTS;
}

static struct alert_tally_problem *find(struct alert_tally *t, const unsigned char key[static 16])
{
    for (size_t i = 0, at = home(key); i < ALERT_TALLY_SLOTS; i++, at = (at + 1) % ALERT_TALLY_SLOTS) {
        if (t->slots[at] == EMPTY)
            return NULL;
        if (t->slots[at] != GONE && memcmp(t->problems[t->slots[at] - 1].key, key, 16) == 0)
            return &t->problems[t->slots[at] - 1];
    }
    return NULL;
}

static void link_up(struct alert_tally *t, size_t place)
{
    size_t at = home(t->problems[place].key);
    while (t->slots[at] != EMPTY && t->slots[at] != GONE)
        at = (at + 1) % ALERT_TALLY_SLOTS;
    t->slots[at] = (uint16_t)(place + 1);
}

static void take_out(struct alert_tally *t, size_t place)
{
    size_t at = home(t->problems[place].key);
    while (t->slots[at] != place + 1)
        at = (at + 1) % ALERT_TALLY_SLOTS;
    t->slots[at] = GONE;
    if (++t->gone > ALERT_TALLY_SLOTS / 4) { /* or looking for what is not there would take ever longer */
        memset(t->slots, 0, sizeof t->slots);
        t->gone = 0;
        for (size_t i = 0; i < t->n; i++)
            if (i != place)
                link_up(t, i);
    }
}

/* What is there ranks before what is over. */
static int rank(const struct alert_tally_problem *p)
{
    return p->resolved ? p->severity : p->severity + ALERT_TALLY_LEVELS;
}

static void apart(struct alert_tally *t, const struct alert_tally_problem *p)
{
    t->untold_apart += p->alerts;
    if (!p->resolved && p->severity > t->worst_apart)
        t->worst_apart = p->severity;
}

/* The place of the one that is least worth keeping, if a problem of this rank is worth more; ALERT_TALLY_KEYS if none is. The youngest of the
 * mildest goes. */
static size_t mildest(const struct alert_tally *t, int than)
{
    size_t found = ALERT_TALLY_KEYS;
    int least = than;
    /* Most often nobody has to make room, and this is asked for each of a hundred thousand: by the counts alone. */
    bool milder = false;
    for (int r = 0; r < than; r++)
        milder = milder || t->at_rank[r] > 0;
    for (size_t i = 0; milder && i < t->n; i++)
        if (rank(&t->problems[i]) < least || (found < ALERT_TALLY_KEYS && rank(&t->problems[i]) == least)) {
            least = rank(&t->problems[i]);
            found = i;
        }
    return found;
}

static void place_new(struct alert_tally *t, const struct alert_tally_problem *p)
{
    size_t place = t->n;
    if (t->n == ALERT_TALLY_KEYS) {
        place = mildest(t, rank(p));
        if (place == ALERT_TALLY_KEYS) {
            apart(t, p);
            return;
        }
        apart(t, &t->problems[place]);
        t->at_rank[rank(&t->problems[place])]--;
        take_out(t, place);
    } else {
        t->n++;
    }
    t->problems[place] = *p;
    t->at_rank[rank(p)]++;
    link_up(t, place);
}

void alert_tally_add(struct alert_tally *t, const PB(Alert) * a, uint64_t seq)
{
    struct alert_tally_problem p = {
        .seq = seq, .first_seq = seq, .alerts = 1, .severity = (uint8_t)level(a), .resolved = a->resolved};
    crypto_generichash(p.key, sizeof p.key, (const unsigned char *)a->dedup_key, strlen(a->dedup_key), NULL, 0);
    if (t->alerts++ == 0) {
        t->first_seq = seq;
        t->from_unix_ms = t->to_unix_ms = a->raised_unix_ms;
    }
    t->last_seq = seq;
    if (a->raised_unix_ms < t->from_unix_ms)
        t->from_unix_ms = a->raised_unix_ms;
    if (a->raised_unix_ms > t->to_unix_ms)
        t->to_unix_ms = a->raised_unix_ms;
    if (!a->resolved)
        t->by_level[p.severity]++;
    struct alert_tally_problem *known = find(t, p.key);
    if (known) {
        t->at_rank[rank(known)]--;
        t->at_rank[rank(&p)]++;
        known->seq = seq;
        known->alerts++;
        known->severity = p.severity;
        known->resolved = p.resolved;
    } else {
        place_new(t, &p);
    }
}

struct ranked {
    int rank;
    uint64_t first_seq;
    size_t place;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank > y->rank ? -1 : 1;
    return (x->first_seq > y->first_seq) - (x->first_seq < y->first_seq);
}

size_t alert_tally_worst(const struct alert_tally *t, size_t max, size_t *ret)
{
    struct ranked all[ALERT_TALLY_KEYS];
    for (size_t i = 0; i < t->n; i++)
        all[i] = (struct ranked){rank(&t->problems[i]), t->problems[i].first_seq, i};
    qsort(all, t->n, sizeof *all, by_rank);
    size_t n = t->n < max ? t->n : max;
    for (size_t i = 0; i < n; i++)
        ret[i] = all[i].place;
    return n;
}

size_t alert_tally_over(const struct alert_tally *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        n += t->problems[i].resolved;
    return n;
}

bool alert_tally_resolved(const struct alert_tally *t)
{
    return t->n > 0 && t->worst_apart == 0 && alert_tally_over(t) == t->n;
}

int alert_tally_severity(const struct alert_tally *t)
{
    bool over = alert_tally_resolved(t);
    int worst = t->worst_apart;
    for (size_t i = 0; i < t->n; i++)
        if ((over || !t->problems[i].resolved) && t->problems[i].severity > worst)
            worst = t->problems[i].severity;
    return worst;
}
