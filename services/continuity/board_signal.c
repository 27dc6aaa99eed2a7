/* board_signal.c - signals come and go: each is one condition of one agent or target, known or new, and moves one incident. */
#include "continuity/availability.h"
#include "continuity/board_impl.h"
#include <stdio.h>
#include <string.h>

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(1099511628211);
    return h;
}

/* The same wherever it is decided: whoever sees this evidence first gives this name. People read the time in it. */
static void name(struct board *b, const char *key, int64_t at_ms, char id[static INCIDENT_ID])
{
    uint32_t month = availability_month_of(at_ms);
    int64_t in_month = (at_ms - availability_month_start(month)) / 1000;
    uint64_t h = hash(UINT64_C(14695981039346656037), key, strlen(key));
    for (uint64_t salt = 0; salt == 0 || board_find(b, id); salt++) {
        h = hash(hash(h, &at_ms, sizeof at_ms), &salt, sizeof salt);
        snprintf(id, INCIDENT_ID, "%06u%02u-%02u%02u%02u-%010llx", month % 1000000,
                 (unsigned)(in_month / 86400) % 100 + 1, (unsigned)(in_month / 3600 % 24),
                 (unsigned)(in_month / 60 % 60), (unsigned)(in_month % 60),
                 (unsigned long long)(h & UINT64_C(0xffffffffff)));
    }
}

/* An agent's condition is that of all its signals. */
static void condition(struct board *b, struct board_subject *s, bool drill, int64_t at_ms)
{
    unsigned is = 0, was = s->condition;
    for (int d = SIGNAL_LLM; d <= SIGNAL_LINK; d++)
        if (s->signals[d])
            is |= s->signals[d]->condition;
    if (is == was)
        return;
    s->condition = (uint8_t)is;
    if (b->hooks.condition && b->synced)
        b->hooks.condition(b->hooks.ctx, s->name, was, is, drill, at_ms);
}

void board_conditions(struct board *b)
{
    struct board_subject *s, *next;
    HASH_ITER(hh, b->subjects, s, next)
    {
        int64_t at_ms = 0;
        bool drill = true;
        for (int d = SIGNAL_LLM; d <= SIGNAL_LINK; d++) {
            const struct board_signal *sig = s->signals[d];
            if (sig && sig->at_ms > at_ms)
                at_ms = sig->at_ms;
            drill = drill && (!sig || sig->drill);
        }
        if (s->condition && b->hooks.condition)
            b->hooks.condition(b->hooks.ctx, s->name, 0, s->condition, drill, at_ms);
    }
}

unsigned board_condition(const struct board *b, const char *agent)
{
    const struct board_subject *s = NULL;
    HASH_FIND_STR(b->subjects, agent, s);
    return s ? s->condition : 0;
}

struct incident *board_of(struct board *b, enum signal_dimension d, const char *subject)
{
    const struct board_subject *s = board_subject(b, subject);
    const struct board_signal *sig = s ? s->signals[d] : NULL;
    return sig && sig->in && sig->in->x.phase != INCIDENT_PHASE(CLOSED) ? &sig->in->x : NULL;
}

/* Whom it concerns: the agent, also that of what a person declares of one; of targets and data the suite. Held by the incident. */
static struct board_subject *concerned(struct board *b, const struct signal *s, struct board_subject *subject)
{
    if (s->dimension <= SIGNAL_LINK)
        return subject;
    if (s->dimension == SIGNAL_MANUAL && strncmp(s->subject, "agent.", 6) == 0 && s->subject[6])
        return board_subject_make(b, s->subject + 6);
    return NULL;
}

static unsigned conditions_of(const struct signal *s)
{
    return s->dimension == SIGNAL_DATA ? 0 : s->condition & 7u;
}

/* One signal as evidence of its incident. was: what it meant before, if it is known. */
static bool evidence(struct board *b, struct board_entry *e, struct board_signal *sig, const struct signal *s,
                     bool known, unsigned was, int64_t at_ms, int64_t now_ms)
{
    struct board_subject *who = concerned(b, s, sig->of);
    bool data = s->dimension == SIGNAL_DATA;
    unsigned clocks = incident_concerned(&b->rule, conditions_of(s), data);
    bool fresh = who && board_member(e, who, clocks) && e->n_members > e->x.agents_total;
    if (!who)
        e->suite_clocks |= clocks;
    struct incident_event ev = {.kind = INCIDENT_EVIDENCE,
                                .failure = s->failure,
                                .severity = s->severity > 0 ? s->severity : REDOUBT__V1__SEVERITY__SEVERITY_INFO,
                                .condition = (uint8_t)conditions_of(s),
                                .was = (uint8_t)(data ? 0 : was & 7u),
                                .known = known,
                                .at_ms = at_ms,
                                .drill = s->drill,
                                .again = !b->synced,
                                .new_agent = fresh,
                                .limits = board_limits(b, who),
                                .agent = who ? who->index : 0,
                                .cause = s->cause && *s->cause ? s->cause : s->subject,
                                .summary = s->summary};
    bool done = board_apply(b, e, &ev, now_ms);
    if (done && data && (!known || at_ms < e->x.clocks[SET_RTO_DATA].started_ms)) {
        ev.kind = INCIDENT_DATA;
        done = board_apply(b, e, &ev, now_ms);
    }
    return done;
}

static void remember(struct board_signal *sig, const struct signal *s, int64_t at_ms)
{
    sig->condition = s->condition;
    sig->failure = s->failure;
    sig->drill = s->drill;
    if (s->severity > sig->severity)
        sig->severity = s->severity;
    if (at_ms < sig->at_ms)
        sig->at_ms = at_ms;
}

/* A second agent: the incident is not about the first alone any more. */
static void several(struct board *b, struct board_entry *e, const struct signal *s)
{
    if (!board_own(s) || board_kin_of(&e->x) < 0 || strcmp(e->x.key, "agents") == 0 ||
        strcmp(e->x.key + 6, s->subject) == 0)
        return;
    const char *key = board_text(b, "agents", INCIDENT_KEY - 1);
    if (!key)
        return;
    board_unindex(b, e);
    board_text_drop(b, e->x.key);
    e->x.key = key;
    board_index(b, e);
}

/* It belongs to one that a person has closed: it is counted there until it clears, and moves nothing. */
static bool late_one(struct board *b, struct board_entry *e, struct board_subject *subject, const struct signal *s,
                     int64_t at_ms)
{
    struct board_signal *sig = board_signal_add(b, e, subject, s->dimension, s->condition, s->cause, at_ms);
    if (!sig)
        return false;
    remember(sig, s, at_ms);
    board_recount(b, e);
    condition(b, subject, s->drill, at_ms);
    return true;
}

static bool join(struct board *b, const struct signal *s, struct board_subject *subject, int64_t at_ms,
                 int64_t now_ms)
{
    char key[BOARD_KEY], id[INCIDENT_ID] = "";
    bool late = false;
    struct board_entry *e = board_which(b, s, subject, board_key(b, s, key), at_ms, &late);
    if (late)
        return late_one(b, e, subject, s, at_ms);
    bool opens = !e;
    if (opens) {
        name(b, key, at_ms, id);
        e = board_entry_new(b, id, key);
    }
    struct board_signal *sig =
        e ? board_signal_add(b, e, subject, s->dimension, s->condition, s->cause, at_ms) : NULL;
    if (!sig) {
        if (e && opens)
            board_entry_free(b, e);
        return false;
    }
    remember(sig, s, at_ms);
    condition(b, subject, s->drill, at_ms);
    if (!opens)
        several(b, e, s);
    return evidence(b, e, sig, s, false, 0, at_ms, now_ms);
}

static void clear(struct board *b, struct board_signal *sig, int64_t at_ms, int64_t now_ms)
{
    struct board_entry *e = sig->in;
    struct board_subject *subject = sig->of;
    bool data = sig->dimension == SIGNAL_DATA, drill = sig->drill;
    struct incident_event ev = {
        .kind = INCIDENT_CLEARED, .condition = (uint8_t)(data ? 0 : sig->condition & 7u), .at_ms = at_ms};
    board_subject_hold(subject); /* for condition() */
    board_signal_drop(b, sig);
    condition(b, subject, drill, at_ms);
    board_subject_drop(b, subject);
    if (!e)
        return;
    bool more = false;
    for (const struct board_signal *s = e->signals; s; s = s->next)
        more = more || s->dimension == SIGNAL_DATA;
    if (data && !more) {
        struct incident_event well = {.kind = INCIDENT_DATA_WELL, .at_ms = at_ms};
        board_apply(b, e, &well, now_ms);
    }
    board_apply(b, e, &ev, now_ms);
}

/* Known already, but not as it is said now. */
static bool changed(struct board *b, struct board_signal *sig, const struct signal *s, int64_t at_ms, int64_t now_ms)
{
    unsigned was = sig->condition;
    bool more = (s->condition & ~was) != 0;
    if (was == s->condition && s->severity <= sig->severity && at_ms >= sig->at_ms && (s->drill || !sig->drill))
        return true;
    if (more && (!sig->in || !incident_takes(&sig->in->x))) {
        /* Its incident has ended: what comes on top is another one's first evidence. */
        struct board_subject *subject = sig->of;
        board_subject_hold(subject);
        clear(b, sig, at_ms, now_ms);
        bool done = join(b, s, subject, at_ms, now_ms);
        board_subject_drop(b, subject);
        return done;
    }
    remember(sig, s, at_ms);
    condition(b, sig->of, s->drill, at_ms);
    if (!sig->in)
        return true;
    if (incident_takes(&sig->in->x))
        return evidence(b, sig->in, sig, s, true, was, at_ms, now_ms);
    board_recount(b, sig->in);
    return true;
}

void board_rejoin(struct board *b, struct board_signal *sig, int64_t now_ms)
{
    struct board_subject *subject = sig->of;
    const char *cause = sig->cause;
    struct signal s = {.dimension = (enum signal_dimension)sig->dimension,
                       .subject = subject->name,
                       .cause = cause,
                       .failure = sig->failure,
                       .severity = sig->severity,
                       .condition = sig->condition,
                       .drill = sig->drill,
                       .at_ms = sig->at_ms};
    sig->cause = NULL; /* held here until it has joined */
    board_subject_hold(subject);
    board_signal_drop(b, sig);
    join(b, &s, subject, s.at_ms, now_ms);
    board_subject_drop(b, subject);
    board_text_drop(b, cause);
}

bool board_signal(struct board *b, const struct signal *s, int64_t now_ms)
{
    int64_t at_ms = s->at_ms > 0 && s->at_ms < now_ms ? s->at_ms : now_ms;
    struct board_subject *subject = board_subject(b, s->subject);
    struct board_signal *sig = subject ? subject->signals[s->dimension] : NULL;
    if (s->condition == 0) {
        if (sig)
            clear(b, sig, at_ms, now_ms);
        return true;
    }
    if (sig)
        return changed(b, sig, s, at_ms, now_ms);
    if (!subject && !(subject = board_subject_make(b, s->subject)))
        return false;
    board_subject_hold(subject);
    bool done = join(b, s, subject, at_ms, now_ms);
    board_subject_drop(b, subject);
    return done;
}
