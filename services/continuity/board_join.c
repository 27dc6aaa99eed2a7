/* board_join.c - which open incident a signal belongs to: by its cause, by its agent, or by agents that go close to each other. */
#include "continuity/board_impl.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

#define KIND(x) REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_##x

bool board_own(const struct signal *s)
{
    switch (s->dimension) {
    case SIGNAL_AUTOMATION:
    case SIGNAL_RESOURCES:
    case SIGNAL_LINK:
        return true;
    case SIGNAL_LLM:
    case SIGNAL_BACKEND:
        return !s->cause || !*s->cause;
    default:
        return false;
    }
}

/* The first so many tokens of a dotted name. */
static int tokens(const char *name, int64_t n)
{
    int len = 0;
    for (; name[len]; len++)
        if (name[len] == '.' && --n <= 0)
            break;
    return len;
}

const char *board_key(const struct board *b, const struct signal *s, char buf[static BOARD_KEY])
{
    const char *cause = s->cause && *s->cause ? s->cause : s->subject;
    if (board_own(s))
        snprintf(buf, BOARD_KEY, "agent.%s", s->subject);
    else if (s->dimension == SIGNAL_DATA)
        snprintf(buf, BOARD_KEY, "data.%s", s->subject);
    else if (s->dimension == SIGNAL_MANUAL)
        snprintf(buf, BOARD_KEY, "%s", s->subject);
    else
        snprintf(buf, BOARD_KEY, "%.*s", tokens(cause, b->set->phases.join_tokens), cause);
    return buf;
}

static int kin_of_kind(int failure)
{
    return failure == KIND(AGENT_DOWN) ? 0 : failure == KIND(NETWORK) ? 1 : -1;
}

int board_kin_of(const struct incident *x)
{
    bool agents = x->key && (strcmp(x->key, "agents") == 0 || strncmp(x->key, "agent.", 6) == 0);
    return agents && incident_takes(x) ? kin_of_kind(x->kind) : -1;
}

/* An agent's own signal that is open: all that an agent itself has is one. */
static struct board_entry *of_agent(const struct board_subject *subject)
{
    static const enum signal_dimension own[] = {SIGNAL_AUTOMATION, SIGNAL_RESOURCES, SIGNAL_LINK};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        const struct board_signal *s = subject->signals[own[i]];
        if (s && s->in && incident_takes(&s->in->x))
            return s->in;
    }
    return NULL;
}

struct board_entry *board_which(struct board *b, const struct signal *s, struct board_subject *subject,
                                const char *key, int64_t at_ms, bool *ret_late)
{
    struct board_entry *e = NULL;
    bool own = board_own(s);
    *ret_late = false;
    if (own && (e = of_agent(subject)))
        return e;
    if (own && subject->restored && incident_takes(&subject->restored->x))
        return subject->restored;
    HASH_FIND(by_key, b->keys, key, strlen(key), e);
    if (e)
        return e;
    int kin = own ? kin_of_kind(s->failure) : -1;
    if (kin >= 0 && (e = b->kin[kin])) {
        int64_t within = b->set->phases.join_ms;
        if (at_ms >= e->x.evidence_ms - within && at_ms <= e->x.last_joined_ms + within)
            return e;
    }
    /* A person closed it although this was open: it still is, and nothing new. */
    e = own && subject->restored ? subject->restored : NULL;
    if (!e)
        HASH_FIND(by_key, b->late, key, strlen(key), e);
    if (!e || at_ms > e->x.validated_ms)
        return NULL;
    *ret_late = true;
    return e;
}

/* ---- hashes and lists by what an incident is ---- */

/* An incident's kind never changes while it is there: but for a document, which is taken out before. */
static void kin_remove(struct board *b, struct board_entry *e)
{
    int kin = kin_of_kind(e->x.kind);
    if (!e->kin)
        return;
    assert(kin >= 0);
    DL_DELETE2(b->kin[kin], e, kin_prev, kin_next);
    e->kin = false;
}

static void kin_put(struct board *b, struct board_entry *e, int kin)
{
    struct board_entry *at = b->kin[kin];
    while (at && at->x.last_joined_ms > e->x.last_joined_ms)
        at = at->kin_next;
    if (at)
        DL_PREPEND_ELEM2(b->kin[kin], at, e, kin_prev, kin_next);
    else
        DL_APPEND2(b->kin[kin], e, kin_prev, kin_next);
    e->kin = true;
}

void board_unindex(struct board *b, struct board_entry *e)
{
    if (e->keyed == BOARD_KEYED)
        HASH_DELETE(by_key, b->keys, e);
    else if (e->keyed == BOARD_KEYED_LATE)
        HASH_DELETE(by_key, b->late, e);
    e->keyed = BOARD_UNKEYED;
    kin_remove(b, e);
}

void board_index(struct board *b, struct board_entry *e)
{
    struct board_entry *there = NULL;
    size_t len = strlen(e->x.key);
    int kin = board_kin_of(&e->x);
    board_unindex(b, e);
    if (kin >= 0)
        kin_put(b, e, kin);
    if (incident_takes(&e->x)) {
        HASH_FIND(by_key, b->keys, e->x.key, len, there);
        if (there)
            return; /* two leaders have opened one each: the first takes what comes */
        HASH_ADD_KEYPTR(by_key, b->keys, e->x.key, len, e);
        e->keyed = BOARD_KEYED;
    } else if (!b->synced && e->x.open_signals > 0) {
        HASH_FIND(by_key, b->late, e->x.key, len, there);
        if (there && there->x.validated_ms >= e->x.validated_ms)
            return;
        if (there)
            board_unindex(b, there);
        HASH_ADD_KEYPTR(by_key, b->late, e->x.key, len, e);
        e->keyed = BOARD_KEYED_LATE;
    }
}
