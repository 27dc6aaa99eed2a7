/* continuity_check.c - what validation asks: no agent of the incident is ill, directives are confirmed, the trail goes on. */
#include "continuity/continuity_impl.h"
#include <stdlib.h>

const char *check_incident(struct continuity *c, const struct incident *x, char *buf, size_t size)
{
    if (!outbox_ok(c->s->outbox)) {
        snprintf(buf, size, "nothing can be made durable: the outbox of %s is full or its disk fails",
                 c->s->instance);
        return buf;
    }
    if (x->agents_total == 0)
        return NULL;
    const char **names = malloc(x->agents_total * sizeof *names);
    if (!names) {
        snprintf(buf, size, "out of memory");
        return buf;
    }
    const char *ill = NULL;
    int64_t now = continuity_now_ms(c);
    size_t n = board_agents(c->board, x, names, x->agents_total);
    for (size_t i = 0; i < n && !ill; i++) {
        if (!settings_agent(c->s->settings, names[i]))
            continue;
        ill = sight_agent_ill(c->sight, names[i], now);
        if (ill) {
            snprintf(buf, size, "%s: %s", names[i], ill);
            ill = buf;
        }
    }
    free(names);
    return ill;
}
