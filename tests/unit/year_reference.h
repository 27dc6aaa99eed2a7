/* year_reference.h - what a year's log must have come to, worked out afterwards and by other means than the services do: plain lists, looked through again and
 * again. It shares no code with them. Used by test_continuity_year.c alone.
 *
 * The log is what the service was told: evidence, people's acts, answers, and when it was away. Incidents are numbered in order of opening. */
#ifndef REDOUBT_TESTS_YEAR_REFERENCE_H
#define REDOUBT_TESTS_YEAR_REFERENCE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AGENTS   500
#define SOURCES  4
#define DECLARED 6
#define TARGETS  12
#define SUBJECTS (AGENTS + SOURCES + DECLARED + TARGETS)

enum dim { LLM, BACKEND, AUTOMATION, RESOURCES, LINK, TARGET, DATA, MANUAL, DIMS };
enum what { RAISE, CLEAR, TOLD, PASSED, FAILED, REPORTED, CLOSE, ADVANCE, DOWN, UP, SYNC, SETTLE, END };
struct line {
    int64_t t, at;
    enum what what;
    int subject, incident;
    enum dim dim;
    int failure, severity, condition;
    bool drill;
    char cause[48]; /* target; "" = itself */
    uint64_t order; /* of lines at the same time */
};

enum { F = 1, D = 2, L = 4 };
enum { MAD_F, MAD_D, MAD_L, RTO_C, RTO_F, RTO_D, CLOCKS };

struct terms {
    int64_t respond, assess, settle, validate, learn, join;
    int closes_itself;
    int64_t (*limit)(int subject, int clock); /* subject -1 = the suite's */
    const char *(*name)(int subject);
};

struct ref_piece { /* from `t` on the clock is known to have started at `start`, with this limit */
    int64_t t, start, limit;
};
struct ref_phase {
    int phase;
    int64_t in, out;
    bool overdue;
};
struct ref_incident {
    char key[64];
    int kind, severity, n_agents;
    bool drill, several, ended, data, told, passed;
    bool agent[AGENTS];
    int64_t evidence, joined, placed; /* placed: order among those with the same `joined` */
    int64_t validated, closed;
    int phase;
    struct ref_phase phases[256];
    int n_phases;
    struct ref_piece *pieces[CLOCKS];
    int n_pieces[CLOCKS];
    int64_t told_at[CLOCKS][4];
    bool reported;
};
struct ref_signal {
    bool open, sure; /* sure: it was said since the service is back */
    int incident, condition, severity;
    int64_t at;
    bool drill;
};
struct ref_change {
    int64_t t, at;
    int condition;
};
struct ref {
    const struct terms *terms;
    struct ref_incident **incidents;
    int n;
    struct ref_signal signals[SUBJECTS][DIMS];
    struct ref_change *changes[AGENTS]; /* at 0: settled at t */
    int n_changes[AGENTS];
    int condition[AGENTS];
    int64_t down_from[2000], down_to[2000];
    int n_down;
    bool replaying, lost;
    int64_t placed;
};

static int open_of(const struct ref *r, int incident, bool declared)
{
    int n = 0;
    for (int s = 0; s < SUBJECTS; s++)
        for (int d = 0; d < DIMS; d++)
            n += r->signals[s][d].open && r->signals[s][d].incident == incident && (declared || d != MANUAL);
    return n;
}

static void *more(void *list, int n, size_t size)
{
    if (n & (n - 1))
        return list;
    list = realloc(list, (size_t)(n ? n * 2 : 1) * size);
    assert(list);
    return list;
}

/* ---- when people are told ---- */

static int64_t awake(const struct ref *r, int64_t t)
{
    for (int i = 0; i < r->n_down; i++)
        if (t > r->down_from[i] && t < r->down_to[i])
            return r->down_to[i];
    return t;
}

/* When people were told of this share: -1 = never. */
static int64_t told_when(const struct ref *r, const struct ref_incident *x, int clock, int share)
{
    for (int i = 0; i < x->n_pieces[clock]; i++) {
        const struct ref_piece *p = &x->pieces[clock][i];
        int64_t reach = p->start;
        while ((reach - p->start) * 100 < p->limit * share) /* by strides, then by single ones */
            reach += (p->limit * share - (reach - p->start) * 100) / 100 > 0
                         ? (p->limit * share - (reach - p->start) * 100) / 100
                         : 1;
        int64_t t = awake(r, reach > p->t ? reach : p->t);
        bool replaced = i + 1 < x->n_pieces[clock] && x->pieces[clock][i + 1].t < t;
        if (replaced)
            continue;
        return x->validated && t > x->validated ? -1 : t;
    }
    return -1;
}

/* ---- phases ---- */

static int64_t limit_of_phase(const struct terms *t, int phase)
{
    return phase == 1   ? t->respond
           : phase == 2 ? t->assess
           : phase == 4 ? t->validate + t->respond
           : phase == 5 ? t->learn
                        : -1;
}

static void go(struct ref *r, int i, int phase, int64_t now)
{
    struct ref_incident *x = r->incidents[i];
    if (x->n_phases > 0)
        x->phases[x->n_phases - 1].out = now;
    assert(x->n_phases < 256);
    x->phases[x->n_phases++] = (struct ref_phase){.phase = phase, .in = now};
    x->phase = phase;
    x->passed = false;
    if (phase >= 5 && !x->validated) {
        x->validated = now;
        for (int c = 0; c < CLOCKS; c++) /* who has breached is critical */
            if (told_when(r, x, c, 100) >= 0)
                x->severity = 4;
    }
    if (phase == 6)
        x->closed = now;
    x->ended = phase >= 5;
}

/* Looked at, at this time: everything that waits may go on. */
static void look(struct ref *r, int i, int64_t now)
{
    struct ref_incident *x = r->incidents[i];
    const struct terms *t = r->terms;
    for (;;) {
        bool clear = x->phase <= 4 && open_of(r, i, true) == 0 && !x->data;
        struct ref_phase *p = &x->phases[x->n_phases - 1];
        if (x->phase == 4 && !clear)
            go(r, i, 3, now);
        else if (x->phase == 1 && (clear || x->told))
            go(r, i, 2, now);
        else if (x->phase == 2 && (clear || now >= x->joined + t->settle))
            go(r, i, 3, now);
        else if (x->phase == 3 && clear)
            go(r, i, 4, now);
        else if (x->phase == 4 && x->passed && now >= p->in + t->validate)
            go(r, i, 5, now);
        else if (x->phase == 5 && x->reported && x->severity <= t->closes_itself)
            go(r, i, 6, now);
        else
            break;
    }
    struct ref_phase *p = &x->phases[x->n_phases - 1];
    int64_t limit = limit_of_phase(t, x->phase);
    if (limit >= 0 && now >= p->in + limit)
        p->overdue = true;
}

/* Up to `to`, the moments at which time alone changes something. */
static void wait_until(struct ref *r, int64_t to)
{
    for (int i = 0; i < r->n; i++) {
        struct ref_incident *x = r->incidents[i];
        if (x->phase == 6)
            continue;
        for (;;) {
            const struct ref_phase *p = &x->phases[x->n_phases - 1];
            int64_t limit = limit_of_phase(r->terms, x->phase), next = INT64_MAX;
            if (x->phase == 2 && x->joined + r->terms->settle > p->in)
                next = x->joined + r->terms->settle;
            if (x->phase == 4 && x->passed && p->in + r->terms->validate < next)
                next = p->in + r->terms->validate;
            if (limit >= 0 && !p->overdue && p->in + limit < next)
                next = p->in + limit;
            if (next > to)
                break;
            int before = x->n_phases;
            bool overdue = p->overdue;
            look(r, i, next);
            if (x->n_phases == before && x->phases[before - 1].overdue == overdue)
                break;
        }
    }
}

/* ---- clocks ---- */

static bool concerns(int condition, bool data, int clock)
{
    switch (clock) {
    case MAD_F:
        return condition & F;
    case MAD_D:
        return condition & D;
    case MAD_L:
        return condition & L;
    case RTO_C: /* threat detection is lost in full failure; blocking also when degraded */
        return condition & (F | D);
    case RTO_F:
        return condition != 0;
    default:
        return data;
    }
}

static void start(struct ref *r, struct ref_incident *x, int who, int condition, bool data, int64_t at, int64_t now)
{
    for (int c = 0; c < CLOCKS; c++) {
        if (!concerns(condition, data, c))
            continue;
        struct ref_piece p = {.t = now, .start = at, .limit = r->terms->limit(who, c)};
        if (x->n_pieces[c] > 0) {
            const struct ref_piece *last = &x->pieces[c][x->n_pieces[c] - 1];
            p.start = last->start < p.start ? last->start : p.start;
            p.limit = last->limit < p.limit ? last->limit : p.limit;
            if (p.start == last->start && p.limit == last->limit)
                continue;
        }
        x->pieces[c] = more(x->pieces[c], x->n_pieces[c], sizeof p);
        x->pieces[c][x->n_pieces[c]++] = p;
    }
}

/* ---- which incident ---- */

static bool own_dim(enum dim d, const char *cause)
{
    return d == AUTOMATION || d == RESOURCES || d == LINK || ((d == LLM || d == BACKEND) && !*cause);
}

static void key_of(const struct ref *r, const struct line *l, char key[64])
{
    const char *name = r->terms->name(l->subject);
    if (own_dim(l->dim, l->cause))
        snprintf(key, 64, "agent.%.50s", name);
    else if (l->dim == DATA)
        snprintf(key, 64, "data.%.50s", name);
    else if (l->dim == MANUAL)
        snprintf(key, 64, "%.60s", name);
    else { /* two tokens */
        snprintf(key, 64, "%.60s", *l->cause ? l->cause : name);
        char *dot = strchr(key, '.');
        dot = dot ? strchr(dot + 1, '.') : NULL;
        if (dot)
            *dot = '\0';
    }
}

static bool of_agents(const struct ref_incident *x)
{
    return !x->ended && (x->kind == 5 || x->kind == 6) && (x->several || strncmp(x->key, "agent.", 6) == 0);
}

static int choose(struct ref *r, const struct line *l)
{
    char key[64];
    bool own = own_dim(l->dim, l->cause);
    key_of(r, l, key);
    for (int d = AUTOMATION; own && d <= LINK; d++) {
        const struct ref_signal *s = &r->signals[l->subject][d];
        if (s->open && !r->incidents[s->incident]->ended)
            return s->incident;
    }
    for (int i = r->n - 1; i >= 0; i--)
        if (!r->incidents[i]->ended && strcmp(r->incidents[i]->several ? "agents" : r->incidents[i]->key, key) == 0)
            return i;
    int best = -1;
    for (int i = 0; own && (l->failure == 5 || l->failure == 6) && i < r->n; i++) {
        const struct ref_incident *x = r->incidents[i], *y = best < 0 ? NULL : r->incidents[best];
        if (of_agents(x) && x->kind == l->failure &&
            (!y || x->joined > y->joined || (x->joined == y->joined && x->placed > y->placed)))
            best = i;
    }
    if (best >= 0 && l->at >= r->incidents[best]->evidence - r->terms->join &&
        l->at <= r->incidents[best]->joined + r->terms->join)
        return best;
    return -1;
}

/* ---- conditions of agents ---- */

static void changed(struct ref *r, int agent, int64_t t, int64_t at, int condition)
{
    r->changes[agent] = more(r->changes[agent], r->n_changes[agent], sizeof(struct ref_change));
    r->changes[agent][r->n_changes[agent]++] = (struct ref_change){t, at, condition};
}

static void agent_now(struct ref *r, int agent, int64_t t, int64_t at)
{
    int is = 0;
    if (agent >= AGENTS || r->replaying)
        return;
    for (int d = LLM; d <= LINK; d++)
        if (r->signals[agent][d].open)
            is |= r->signals[agent][d].condition;
    if (is != r->condition[agent])
        changed(r, agent, t, at, is);
    r->condition[agent] = is;
}

/* ---- lines ---- */

/* Which agent's limits count. */
static int who_of(const struct ref *r, const struct line *l)
{
    const char *name = r->terms->name(l->subject);
    if (l->dim <= LINK)
        return l->subject;
    for (int a = 0; l->dim == MANUAL && strncmp(name, "agent.", 6) == 0 && a < AGENTS; a++)
        if (strcmp(r->terms->name(a), name + 6) == 0)
            return a;
    return -1;
}

static void join(struct ref *r, const struct line *l, int i)
{
    struct ref_incident *x = r->incidents[i];
    struct ref_signal *s = &r->signals[l->subject][l->dim];
    const char *name = r->terms->name(l->subject);
    int who = who_of(r, l);
    if (own_dim(l->dim, l->cause) && of_agents(x) && !x->several && strcmp(x->key + 6, name) != 0) {
        x->several = true;
        x->placed = ++r->placed;
    }
    if (who >= 0 && !x->agent[who]) {
        x->agent[who] = true;
        x->n_agents++;
    }
    *s = (struct ref_signal){.open = true,
                             .sure = true,
                             .incident = i,
                             .condition = l->condition,
                             .severity = l->severity,
                             .at = l->at,
                             .drill = l->drill};
    if (l->at > x->joined) {
        x->joined = l->at;
        x->placed = ++r->placed;
    } else if (x->placed == 0) {
        x->placed = ++r->placed;
    }
    x->evidence = l->at < x->evidence ? l->at : x->evidence;
    x->severity = l->severity > x->severity ? l->severity : x->severity;
    x->drill = x->drill && l->drill;
    if (l->dim == DATA)
        x->data = true;
    start(r, x, who, l->dim == DATA ? 0 : l->condition, l->dim == DATA, l->at, l->t);
    look(r, i, l->t);
}

static void open_one(struct ref *r, const struct line *l)
{
    struct ref_incident *x = calloc(1, sizeof *x);
    assert(x);
    r->incidents = more(r->incidents, r->n, sizeof(struct ref_incident *));
    r->incidents[r->n++] = x;
    key_of(r, l, x->key);
    x->kind = l->failure;
    x->drill = true;
    x->evidence = INT64_MAX;
    go(r, r->n - 1, 1, l->t);
    join(r, l, r->n - 1);
}

static void raise_(struct ref *r, const struct line *l)
{
    struct ref_signal *s = &r->signals[l->subject][l->dim];
    bool again = s->open && r->replaying && !s->sure;
    if (s->open && !again) {
        struct ref_incident *x = r->incidents[s->incident];
        int before = s->condition;
        if (l->condition & ~before && x->ended) {
            s->open = false;
            agent_now(r, l->subject, l->t, l->at);
            int i = choose(r, l);
            if (i >= 0)
                join(r, l, i);
            else
                open_one(r, l);
            agent_now(r, l->subject, l->t, l->at);
            return;
        }
        bool nothing =
            l->condition == before && l->severity <= s->severity && l->at >= s->at && (l->drill || !s->drill);
        s->condition = l->condition;
        s->severity = l->severity > s->severity ? l->severity : s->severity;
        s->at = l->at < s->at ? l->at : s->at;
        s->drill = nothing ? s->drill : l->drill;
        if (!x->ended && !nothing) {
            x->severity = l->severity > x->severity ? l->severity : x->severity;
            x->drill = x->drill && l->drill;
            x->evidence = l->at < x->evidence ? l->at : x->evidence;
            if (l->condition & ~before && l->at > x->joined) {
                x->joined = l->at;
                x->placed = ++r->placed;
            }
            start(r, x, who_of(r, l), l->dim == DATA ? 0 : l->condition, l->dim == DATA, l->at, l->t);
            look(r, s->incident, l->t);
        }
    } else if (again && !r->incidents[s->incident]->ended) {
        join(r, l, s->incident);
    } else {
        int i = choose(r, l);
        /* A person had closed it while this was open: it stays there, but for what is new since. */
        if (i < 0 && again && l->at <= r->incidents[s->incident]->validated) {
            s->sure = true;
            s->condition = l->condition;
            s->severity = l->severity;
            s->drill = l->drill;
            s->at = l->at;
        } else if (i >= 0) {
            join(r, l, i);
        } else {
            open_one(r, l);
        }
    }
    agent_now(r, l->subject, l->t, l->at);
}

static void clear_(struct ref *r, int subject, enum dim d, int64_t t, int64_t at)
{
    struct ref_signal *s = &r->signals[subject][d];
    if (!s->open)
        return;
    s->open = false;
    struct ref_incident *x = r->incidents[s->incident];
    bool data = false;
    for (int k = 0; k < SUBJECTS; k++)
        data = data || (r->signals[k][DATA].open && r->signals[k][DATA].incident == s->incident);
    if (d == DATA)
        x->data = data;
    look(r, s->incident, t);
    agent_now(r, subject, t, at);
}

static void person(struct ref *r, const struct line *l)
{
    struct ref_incident *x = r->incidents[l->incident];
    bool refused = x->phase >= (l->what == CLOSE ? 6 : 4) ||
                   (l->what == ADVANCE && (open_of(r, l->incident, false) > 0 || x->data));
    if (refused)
        return;
    for (int s = 0; s < SUBJECTS; s++)
        if (r->signals[s][MANUAL].open && r->signals[s][MANUAL].incident == l->incident)
            r->signals[s][MANUAL].open = false;
    go(r, l->incident, l->what == CLOSE ? 6 : 4, l->t);
    x->told = true;
    look(r, l->incident, l->t);
}

static void back(struct ref *r, int64_t t)
{
    for (int s = 0; s < SUBJECTS; s++)
        for (int d = LLM; d <= TARGET; d++)
            if (r->signals[s][d].open && !r->signals[s][d].sure)
                r->signals[s][d].open = false;
    for (int i = 0; i < r->n; i++)
        if (r->incidents[i]->phase != 6)
            look(r, i, t);
    r->replaying = false;
    for (int a = 0; a < AGENTS; a++) {
        int64_t at = 0;
        for (int d = LLM; d <= LINK; d++)
            if (r->signals[a][d].open && r->signals[a][d].at > at)
                at = r->signals[a][d].at;
        agent_now(r, a, t, at ? at : t);
    }
}

static void take(struct ref *r, const struct line *l)
{
    struct ref_incident *x = l->incident >= 0 && l->incident < r->n ? r->incidents[l->incident] : NULL;
    if (l->what != UP && !r->replaying)
        wait_until(r, l->t);
    if (l->incident >= 0 && !x) {
        r->lost = true; /* there is none of this number */
        return;
    }
    switch (l->what) {
    case RAISE:
        raise_(r, l);
        break;
    case CLEAR:
        clear_(r, l->subject, l->dim, l->t, l->at);
        break;
    case TOLD:
        x->told = x->told || !x->ended;
        look(r, l->incident, l->t);
        break;
    case PASSED:
    case FAILED:
        if (x->phase == 4)
            x->passed = l->what == PASSED;
        look(r, l->incident, l->t);
        break;
    case REPORTED:
        x->reported = x->phase >= 5;
        look(r, l->incident, l->t);
        break;
    case CLOSE:
    case ADVANCE:
        person(r, l);
        break;
    case DOWN:
        assert(r->n_down < 2000);
        r->down_from[r->n_down] = l->t;
        break;
    case UP:
        r->down_to[r->n_down++] = l->t;
        r->replaying = true;
        for (int s = 0; s < SUBJECTS; s++)
            for (int d = LLM; d <= TARGET; d++)
                r->signals[s][d].sure = false;
        for (int i = 0; i < r->n; i++)
            r->incidents[i]->passed = false;
        break;
    case SYNC:
        back(r, l->t);
        break;
    case SETTLE:
    case END:
        for (int a = 0; a < AGENTS; a++)
            changed(r, a, l->t, 0, r->condition[a]);
        break;
    }
}

static struct ref *ref_of(const struct terms *terms, const struct line *lines, size_t n)
{
    struct ref *r = calloc(1, sizeof *r);
    assert(r);
    r->terms = terms;
    for (size_t i = 0; i < n; i++)
        take(r, &lines[i]);
    for (int i = 0; i < r->n; i++)
        for (int c = 0; c < CLOCKS; c++)
            for (int k = 0; k < 4; k++)
                r->incidents[i]->told_at[c][k] = told_when(r, r->incidents[i], c, (const int[]){50, 75, 90, 100}[k]);
    return r;
}

static void ref_free(struct ref *r)
{
    for (int i = 0; i < r->n; i++) {
        for (int c = 0; c < CLOCKS; c++)
            free(r->incidents[i]->pieces[c]);
        free(r->incidents[i]);
    }
    for (int a = 0; a < AGENTS; a++)
        free(r->changes[a]);
    free(r->incidents);
    free(r);
}

/* How long this agent was in its worst condition (0 = none, F, D, L) within a month, since `from`. */
static int64_t ref_spent(const struct ref *r, int agent, int worst, int year, int month, int64_t from)
{
    struct tm first = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = 1}, last = first;
    last.tm_mon++;
    int64_t begin = (int64_t)timegm(&first) * 1000, end = (int64_t)timegm(&last) * 1000, spent = 0, since = from;
    int condition = 0;
    for (int i = 0; i < r->n_changes[agent]; i++) {
        const struct ref_change *c = &r->changes[agent][i];
        int64_t at = c->at ? c->at : c->t; /* at 0: counted up to then, whatever comes late */
        if (at < since)
            at = since;
        int64_t a = since > begin ? since : begin, b = at < end ? at : end;
        int was = condition & F ? F : condition & D ? D : condition & L ? L : 0;
        if (b > a && (worst == was || worst < 0))
            spent += b - a;
        since = at;
        condition = c->condition;
    }
    return spent;
}

#endif
