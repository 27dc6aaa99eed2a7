/* board.c - all incidents and agents in memory. Pure but for memory; see board.h. */
#include "continuity/board.h"
#include <stdlib.h>

struct board {
    struct board_hooks hooks;
};
struct board *board_new(const struct set_continuity *set, const struct board_hooks *hooks)
{
    (void)set;
    struct board *b = calloc(1, sizeof *b);
    if (b)
        b->hooks = *hooks;
    return b;
}
void board_free(struct board *b)
{
    free(b);
}
bool board_reload(struct board *b, const struct set_continuity *set)
{
    (void)b, (void)set;
    return true;
}
bool board_signal(struct board *b, const struct signal *s, int64_t now_ms)
{
    (void)b, (void)s, (void)now_ms;
    return true;
}
bool board_restore(struct board *b, const PB(IncidentChanged) * doc, int64_t now_ms)
{
    (void)b, (void)doc, (void)now_ms;
    return true;
}
void board_synced(struct board *b, int64_t now_ms)
{
    (void)b, (void)now_ms;
}
int64_t board_tick(struct board *b, int64_t now_ms)
{
    (void)b, (void)now_ms;
    return INT64_MAX;
}
bool board_event(struct board *b, const char *id, const struct incident_event *ev, int64_t now_ms,
                 struct incident **ret)
{
    (void)b, (void)id, (void)ev, (void)now_ms;
    *ret = NULL;
    return false;
}
struct incident *board_find(struct board *b, const char *id)
{
    (void)b, (void)id;
    return NULL;
}
struct incident *board_next(const struct board *b, const struct incident *after, bool open_only)
{
    (void)b, (void)after, (void)open_only;
    return NULL;
}
struct incident *board_prev(const struct board *b, const struct incident *before, bool open_only)
{
    (void)b, (void)before, (void)open_only;
    return NULL;
}
size_t board_open(const struct board *b)
{
    (void)b;
    return 0;
}
size_t board_count(const struct board *b)
{
    (void)b;
    return 0;
}
struct incident *board_of(struct board *b, enum signal_dimension d, const char *subject)
{
    (void)b, (void)d, (void)subject;
    return NULL;
}
size_t board_agents(const struct board *b, const struct incident *x, const char **names, size_t max)
{
    (void)b, (void)x, (void)names, (void)max;
    return 0;
}
const char *board_agent_name(const struct board *b, uint32_t index)
{
    (void)b, (void)index;
    return "";
}
unsigned board_condition(const struct board *b, const char *agent)
{
    (void)b, (void)agent;
    return 0;
}
void board_prune(struct board *b, int64_t closed_before_ms, void (*each)(void *ctx, const char *id), void *ctx)
{
    (void)b, (void)closed_before_ms, (void)each, (void)ctx;
}
PB(IncidentChanged) * board_pack(struct board *b, const struct incident *x, int64_t now_ms, uint64_t fence)
{
    (void)b, (void)x, (void)now_ms, (void)fence;
    return NULL;
}
void board_pack_done(PB(IncidentChanged) * doc)
{
    free(doc);
}
