/* alert_inhibit.c - which problems mute which. */
#include "alert/alert_inhibit.h"
#include "common/log.h"
#include "common/matcher.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define RULES_MAX 64 /* settings allow no more: a bit for each */

struct rule {
    char *name;
    struct matchers *source, *target;
    char **equal;
    size_t n_equal;
};
/* A problem that is there and fits a rule's source. */
struct source {
    char id[33];
    int64_t first_ms;
    bool inhibited;            /* itself */
    uint64_t sources, targets; /* rules whose source, whose target it fits */
    UT_hash_handle hh;
    uint64_t same[]; /* of each rule: hash of its fields that must be equal */
};
struct alert_inhibits {
    size_t n;
    struct rule *rules;
    struct source *by_id;
    bool said_full;
};

static void rule_free(struct rule *r)
{
    free(r->name);
    matchers_free(r->source);
    matchers_free(r->target);
    for (size_t i = 0; i < r->n_equal; i++)
        free(r->equal[i]);
    free(r->equal);
}

static int rule_make(struct rule *r, const struct set_inhibit *set, struct err *e)
{
    r->name = strdup(set->name);
    r->equal = calloc(set->equal.n + 1, sizeof *r->equal);
    bool ok = r->name && r->equal;
    for (size_t i = 0; ok && i < set->equal.n; i++) {
        ok = (r->equal[i] = strdup(*CONF_AT(set->equal, char *, i))) != NULL;
        r->n_equal += ok;
    }
    if (!ok)
        return err_set(e, "out of memory");
    r->source = matchers_new((const char *const *)set->source.items, set->source.n, e);
    r->target = r->source ? matchers_new((const char *const *)set->target.items, set->target.n, e) : NULL;
    return r->target ? 0 : -1;
}

struct alert_inhibits *alert_inhibits_new(const struct set_alert *set, struct err *e)
{
    size_t n = set->inhibit.n < RULES_MAX ? set->inhibit.n : RULES_MAX;
    struct alert_inhibits *x = calloc(1, sizeof *x);
    if (!x || !(x->rules = calloc(n + 1, sizeof *x->rules))) {
        err_set(e, "out of memory");
        free(x);
        return NULL;
    }
    for (; x->n < n; x->n++) {
        if (rule_make(&x->rules[x->n], CONF_AT(set->inhibit, struct set_inhibit, x->n), e)) {
            x->n++;
            alert_inhibits_free(x);
            return NULL;
        }
    }
    return x;
}

static void forget(struct alert_inhibits *x, struct source *s)
{
    HASH_DEL(x->by_id, s);
    free(s);
}

void alert_inhibits_free(struct alert_inhibits *x)
{
    if (!x)
        return;
    while (x->by_id)
        forget(x, x->by_id);
    for (size_t i = 0; i < x->n; i++)
        rule_free(&x->rules[i]);
    free(x->rules);
    free(x);
}

/* ---- sources ---- */

/* Of the fields that a rule wants equal; each with its end, so that ab,c is not a,bc. */
static uint64_t same_hash(const struct rule *r, const PB(Alert) * a)
{
    uint64_t h = 0;
    crypto_generichash_state st;
    crypto_generichash_init(&st, NULL, 0, crypto_generichash_BYTES_MIN);
    for (size_t i = 0; i < r->n_equal; i++) {
        const char *v = matcher_field(a, r->equal[i]);
        v = v ? v : "";
        crypto_generichash_update(&st, (const unsigned char *)v, strlen(v) + 1);
    }
    unsigned char out[crypto_generichash_BYTES_MIN];
    crypto_generichash_final(&st, out, sizeof out);
    memcpy(&h, out, sizeof h);
    return h;
}

static uint64_t fits(const struct alert_inhibits *x, const PB(Alert) * a, bool source)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < x->n; i++)
        if (matchers_fit(source ? x->rules[i].source : x->rules[i].target, a))
            bits |= UINT64_C(1) << i;
    return bits;
}

static bool is_open(const PB(ProblemChanged) * p)
{
    return p->state == REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_FIRING ||
           p->state == REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_ACKNOWLEDGED ||
           p->state == REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_MUTED;
}

bool alert_inhibits_feed(struct alert_inhibits *x, const PB(ProblemChanged) * p)
{
    struct source *s;
    if (x->n == 0 || strlen(p->id) >= sizeof s->id)
        return false;
    HASH_FIND_STR(x->by_id, p->id, s);
    uint64_t bits = is_open(p) && p->alert ? fits(x, p->alert, true) : 0;
    if (bits == 0) {
        if (s)
            forget(x, s);
        return s != NULL;
    }
    bool fresh = !s;
    if (fresh) {
        if (HASH_COUNT(x->by_id) >= ALERT_SOURCES_MAX || !(s = calloc(1, sizeof *s + x->n * sizeof s->same[0]))) {
            if (!x->said_full)
                log_warn("too many problems that mute others: further ones do not", F_INT("max", ALERT_SOURCES_MAX));
            x->said_full = true;
            return false;
        }
        memcpy(s->id, p->id, strlen(p->id));
        HASH_ADD_STR(x->by_id, id, s);
    }
    bool inhibited = p->state == REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_MUTED &&
                     strncmp(p->muted_by, "inhibit/", strlen("inhibit/")) == 0;
    bool other = s->sources != bits || s->inhibited != inhibited;
    s->first_ms = p->first_unix_ms;
    s->inhibited = inhibited;
    s->sources = bits;
    s->targets = fits(x, p->alert, false);
    for (size_t i = 0; i < x->n; i++) {
        uint64_t h = same_hash(&x->rules[i], p->alert);
        other = other || s->same[i] != h;
        s->same[i] = h;
    }
    return other;
}

size_t alert_inhibits_sources(const struct alert_inhibits *x)
{
    return HASH_COUNT(x->by_id);
}

/* ---- targets ---- */

const char *alert_inhibits_by(const struct alert_inhibits *x, const PB(Alert) * a, const char *id, int64_t first_ms)
{
    /* What stands still until a person decides is never kept from people because of another problem. */
    if (x->n == 0 || !x->by_id ||
        (a->manual_intervention_required && a->severity >= REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL))
        return NULL;
    uint64_t target = fits(x, a, false);
    if (target == 0)
        return NULL;
    uint64_t source = fits(x, a, true), same[RULES_MAX];
    for (size_t i = 0; i < x->n; i++)
        same[i] = (target | source) & (UINT64_C(1) << i) ? same_hash(&x->rules[i], a) : 0;
    for (const struct source *s = x->by_id; s; s = s->hh.next) {
        if (strcmp(s->id, id) == 0)
            continue;
        bool older = s->first_ms != first_ms ? s->first_ms < first_ms : strcmp(s->id, id) < 0;
        uint64_t there = s->sources & target, back = s->targets & source;
        size_t by = x->n;
        bool mutual = false;
        for (size_t i = 0; i < x->n && (there | back); i++) {
            uint64_t bit = UINT64_C(1) << i;
            if (same[i] != s->same[i])
                continue;
            by = by == x->n && (there & bit) ? i : by;
            mutual = mutual || (back & bit);
        }
        if (by < x->n && (older || (!s->inhibited && !mutual)))
            return x->rules[by].name;
    }
    return NULL;
}
