/* breaker_scope.c - scopes: looks at what their members share, opens the rest, and lets go of it.
 *
 * Every replica does this by the documents that all of them see; the compare-and-set lets one of them win per target. A scope is looked
 * at when a member's document changes, and now and then, because what was to be done may have failed. */
#include "breaker/breaker_shell.h"
#include "breaker/scope.h"
#include "common/clock.h"
#include "common/settings.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOON_MS 1    /* what changes together is looked at together */
#define LOOK_MS 2000 /* what was read of a window is good for so long */

struct scope {
    char *name;
    struct node **members;
    size_t n;
    bool dirty;
    bool waits;          /* for what a window holds */
    bool ill, widened;   /* widened: somebody was opened because of it, and people know */
    int64_t evidence_ms; /* the first behind it, while it is ill */
    UT_hash_handle hh;
};

static void soon(struct scope *sc, struct shell *sh)
{
    sc->dirty = true;
    if (!loop_timer_active(&sh->scoping))
        loop_timer_start(&sh->scoping, SOON_MS, 0);
}

void breaker_scope_changed(struct breaker_target *t)
{
    struct node *n = t->ctx;
    for (size_t i = 0; i < n->n_scopes; i++)
        soon(n->scopes[i], n->sh);
}

void breaker_scope_looked(struct breaker_target *t)
{
    struct node *n = t->ctx;
    for (size_t i = 0; i < n->n_scopes; i++)
        if (n->scopes[i]->waits)
            soon(n->scopes[i], n->sh);
}

void breaker_scope_check(struct shell *sh)
{
    struct scope *sc, *next;
    HASH_ITER(hh, sh->scopes, sc, next)
    {
        soon(sc, sh);
    }
}

/* ---- judging ---- */

static enum breaker_called called(const struct node *n, int64_t now_ms)
{
    if (n->t.watched || n->t.has_verdict)
        return BREAKER_CALLED_YES;
    if (n->t.looked_ms == 0 || now_ms - n->t.looked_ms > LOOK_MS)
        return BREAKER_CALLED_UNKNOWN;
    return n->t.calls > 0 ? BREAKER_CALLED_YES : BREAKER_CALLED_NO;
}

static bool because_of(const struct node *n, const struct scope *sc)
{
    return n->t.doc.scope && strcmp(n->t.doc.scope, sc->name) == 0;
}

/* What the shared windows of those hold that nobody has read for a while; then breaker_scope_looked(). */
static void look(struct scope *sc, int64_t now_ms)
{
    for (size_t i = 0; i < sc->n; i++) {
        struct breaker_target *t = &sc->members[i]->t;
        if (t->doc.state == BREAKER_CLOSED && breaker_target_idle(t) &&
            called(sc->members[i], now_ms) == BREAKER_CALLED_UNKNOWN)
            breaker_target_wake(t);
    }
}

static void judge(struct scope *sc)
{
    struct breaker_scope v = {0};
    int64_t now_ms = clock_shared_ms();
    for (size_t i = 0; i < sc->n; i++) {
        breaker_scope_add(&v, &sc->members[i]->t.doc, called(sc->members[i], now_ms));
        sc->widened |= because_of(sc->members[i], sc);
    }
    sc->waits = breaker_scope_unsure(&v);
    if (sc->waits) { /* neither begin nor end anything on what is not known */
        look(sc, now_ms);
        return;
    }
    bool ill = breaker_scope_ill(&v);
    if (ill && (sc->evidence_ms == 0 || v.first_ms < sc->evidence_ms))
        sc->evidence_ms = v.first_ms;
    if (sc->ill && !ill) {
        if (sc->widened)
            breaker_say_scope(sc->members[0], sc->name, sc->evidence_ms, NULL);
        sc->widened = false;
        sc->evidence_ms = 0;
    }
    sc->ill = ill;
    for (size_t i = 0; i < sc->n; i++) {
        struct node *n = sc->members[i];
        const struct breaker *b = &n->t.doc;
        bool widen = ill && b->state == BREAKER_CLOSED && b->since_ms < v.newest_ms && v.until_ms > now_ms;
        if (widen || (!ill && b->state == BREAKER_OPEN && because_of(n, sc)))
            breaker_target_scope(&n->t, sc->name, ill, &v);
    }
}

void breaker_scope_judge(void *ctx)
{
    struct shell *sh = ctx;
    struct scope *sc, *next;
    /* Half the documents would look like an outage of those that were read first. */
    bool may = sh->synced && !sh->stopped && !sh->s->draining && store_up(sh->s->store) && !service_tilted(sh->s);
    HASH_ITER(hh, sh->scopes, sc, next)
    {
        if (may && sc->dirty) {
            sc->dirty = false;
            judge(sc);
        }
    }
}

/* ---- settings ---- */

static void scope_free(struct scope *sc)
{
    free(sc->name);
    free(sc->members);
    free(sc);
}

void breaker_scope_free(struct shell *sh)
{
    struct scope *sc, *next;
    HASH_ITER(hh, sh->scopes, sc, next)
    {
        HASH_DEL(sh->scopes, sc);
        scope_free(sc);
    }
}

static int join(struct shell *sh, struct node *n, const char *name, struct scope *was)
{
    struct scope *sc;
    HASH_FIND_STR(sh->scopes, name, sc);
    if (!sc) {
        if (!(sc = calloc(1, sizeof *sc)) || !(sc->name = strdup(name))) {
            free(sc);
            return -1;
        }
        struct scope *old;
        HASH_FIND_STR(was, name, old);
        if (old) { /* what people were told goes on */
            sc->ill = old->ill;
            sc->widened = old->widened;
            sc->evidence_ms = old->evidence_ms;
        }
        HASH_ADD_KEYPTR(hh, sh->scopes, sc->name, strlen(sc->name), sc);
    }
    for (size_t i = 0; i < n->n_scopes; i++)
        if (n->scopes[i] == sc)
            return 0; /* named twice */
    struct node **members = realloc(sc->members, (sc->n + 1) * sizeof *members);
    if (!members)
        return -1;
    sc->members = members;
    sc->members[sc->n++] = n;
    n->scopes[n->n_scopes++] = sc;
    return 0;
}

int breaker_scope_settings(struct shell *sh, const struct settings *c)
{
    struct scope *was = sh->scopes, *sc, *next;
    struct node *n, *following;
    int ok = 0;
    sh->scopes = NULL;
    HASH_ITER(hh, sh->nodes, n, following)
    {
        n->n_scopes = 0;
    }
    for (size_t i = 0; i < c->targets.n && ok == 0; i++) {
        const struct set_target *set = CONF_AT(c->targets, struct set_target, i);
        n = breaker_node(sh, set->name);
        for (size_t k = 0; n && k < set->scopes.n && n->n_scopes < NODE_SCOPES_MAX && ok == 0; k++)
            ok = join(sh, n, *CONF_AT(set->scopes, char *, k), was);
    }
    HASH_ITER(hh, was, sc, next)
    {
        HASH_DEL(was, sc);
        scope_free(sc);
    }
    breaker_scope_check(sh);
    return ok;
}
