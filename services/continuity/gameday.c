/* gameday.c - drills on a schedule: starts them, ends them, reads what came of them. */
#include "continuity/continuity_shell.h"
#include <stdlib.h>

struct gamedays {
    struct continuity *c;
};

struct gamedays *gamedays_open(struct continuity *c, struct err *e)
{
    struct gamedays *g = calloc(1, sizeof *g);
    if (!g) {
        (void)err_set(e, "out of memory");
        return NULL;
    }
    g->c = c;
    return g;
}

void gamedays_close(struct gamedays *g)
{
    free(g);
}

void gamedays_seen(struct gamedays *g, const PB(DrillState) * s)
{
    (void)g, (void)s;
}

void gamedays_tick(struct gamedays *g, int64_t now_ms)
{
    (void)g, (void)now_ms;
}

void gamedays_reload(struct gamedays *g)
{
    (void)g;
}

void gamedays_command(struct gamedays *g, const PB(ContinuityCommand) * cmd, const char *reply)
{
    (void)cmd;
    service_reply(continuity_service_of(g->c), reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                  "drills are not ready yet: ask again");
}

size_t gamedays_states(const struct gamedays *g, const PB(DrillState) * *ret, size_t max)
{
    (void)g, (void)ret, (void)max;
    return 0;
}
