/* fallback_index.c - which agents a target's news concern: an index, so that one message costs nothing for thousands of others. */
#include "fallback/fallback_shell.h"
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define STRANGERS_MAX 10000 /* targets that no agent uses, kept since a reload may change that */

static struct target *find(struct shell *sh, const char *name)
{
    struct target *t;
    HASH_FIND_STR(sh->targets, name, t);
    return t;
}

static struct target *make(struct shell *sh, const char *name)
{
    struct target *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    snprintf(t->name, sizeof t->name, "%s", name);
    HASH_ADD_STR(sh->targets, name, t);
    return t;
}

struct target *shell_target(struct shell *sh, const char *name)
{
    struct target *t = find(sh, name);
    if (t || sh->strangers >= STRANGERS_MAX || !(t = make(sh, name)))
        return t;
    sh->strangers++;
    return t;
}

static bool listed(const struct use *u)
{
    return u->prev; /* utlist: the first's is the last */
}

static void link_use(struct agent *a, size_t place, const char *name)
{
    struct use *u = &a->uses[place];
    struct target *t = find(a->sh, name);
    bool stranger = t && !t->users;
    if (!t && !(t = make(a->sh, name)))
        return; /* out of memory: an agent goes on as if it had never been heard of */
    *u = (struct use){.agent = a, .target = t};
    for (size_t i = 0; i < USES_MAX; i++)
        if (i != place && listed(&a->uses[i]) && a->uses[i].target == t)
            return; /* one look is enough */
    a->sh->strangers -= stranger;
    DL_APPEND(t->users, u);
}

void agent_unlink_targets(struct agent *a)
{
    for (size_t i = 0; i < USES_MAX; i++) {
        struct use *u = &a->uses[i];
        if (listed(u)) {
            DL_DELETE(u->target->users, u);
            a->sh->strangers += !u->target->users;
        }
        *u = (struct use){0};
    }
}

void agent_link_targets(struct agent *a)
{
    agent_unlink_targets(a);
    for (size_t i = 0; i < a->rule.n_chain; i++)
        link_use(a, i, a->rule.chain[i].target);
    if (a->rule.backend[0])
        link_use(a, USE_BACKEND, a->rule.backend);
}

const struct fallback_target *agent_sees(const struct agent *a, size_t place)
{
    static const struct fallback_target never_heard_of;
    const struct target *t = a->uses[place].target;
    return t ? &t->view : &never_heard_of;
}

void target_look_at_users(const struct target *t)
{
    for (const struct use *u = t->users; u; u = u->next)
        agent_look_in_turn(u->agent);
}

void targets_free(struct shell *sh)
{
    for (struct target *t = sh->targets, *next; t; t = next) {
        next = t->hh.next;
        HASH_DEL(sh->targets, t);
        free(t);
    }
}
