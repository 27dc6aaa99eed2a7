/* fallback_api.c - override APIs that agents share: who needs one, and which calls of it are under way.
 *
 * An API is needed while any of its agents has no LLM, whichever replica acts for that agent: of those that are another's the last
 * directive tells. When the last need is gone, the agents that wait to release are looked at. */
#include "fallback/fallback_shell.h"
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct api *shell_api(struct shell *sh, const char *url)
{
    struct api *x;
    HASH_FIND_STR(sh->apis, url, x);
    if (x)
        return x;
    x = calloc(1, sizeof *x);
    if (!x || !(x->url = strdup(url)))
        abort(); /* without it a release could undo another's activation */
    HASH_ADD_KEYPTR(hh, sh->apis, x->url, strlen(x->url), x);
    return x;
}

/* The later of what we know and what the stream has shown. */
static bool needs(const struct agent *a)
{
    if (a->known && a->f.doc.epoch >= a->seen_epoch)
        return fallback_without_llm(&a->f.doc);
    return a->seen_epoch > 0 && a->seen_needs;
}

static void count(struct agent *a, bool needing)
{
    struct api *x = a->api;
    if (needing == a->needing)
        return;
    a->needing = needing;
    x->needing += needing ? 1 : (size_t)-1;
    if (x->needing > 0)
        return;
    x->look = true;
    a->sh->apis_due = true;
}

void agent_leave_api(struct agent *a)
{
    if (!a->api)
        return;
    count(a, false);
    DL_DELETE2(a->api->agents, a, api_prev, api_next);
    a->api = NULL;
}

void agent_join_api(struct agent *a)
{
    const char *url = a->set->override.url;
    struct api *x = url && url[0] ? shell_api(a->sh, url) : NULL;
    if (x != a->api) {
        agent_leave_api(a);
        a->api = x;
        if (x)
            DL_APPEND2(x->agents, a, api_prev, api_next);
    }
    agent_count_need(a);
}

void agent_count_need(struct agent *a)
{
    if (a->api)
        count(a, needs(a));
}

bool agent_needed_elsewhere(const struct agent *a)
{
    return a->api && a->api->needing > a->needing;
}

void shell_look_at_apis(struct shell *sh)
{
    if (!sh->apis_due)
        return;
    sh->apis_due = false;
    for (struct api *x = sh->apis; x; x = x->hh.next) {
        if (!x->look)
            continue;
        x->look = false;
        struct agent *a;
        DL_FOREACH2(x->agents, a, api_next)
        {
            if (agent_decided(a) && a->f.doc.override_mode != FALLBACK_OVERRIDE_OFF)
                agent_look_in_turn(a);
        }
    }
}

void apis_free(struct shell *sh)
{
    for (struct api *x = sh->apis, *next; x; x = next) {
        next = x->hh.next;
        HASH_DEL(sh->apis, x);
        free(x->url);
        free(x);
    }
}
