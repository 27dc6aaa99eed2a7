/* client_gate.c - which directives reach the agent, and when it must freeze by itself. */
#include "client/client_gate.h"

void client_gate_init(struct client_gate *g, int64_t now_ms)
{
    *g = (struct client_gate){.down_since_ms = now_ms};
}

void client_gate_up(struct client_gate *g)
{
    g->up = true;
    g->acked_again = false;
}

void client_gate_down(struct client_gate *g, int64_t now_ms)
{
    if (!g->up)
        return;
    g->up = false;
    g->down_since_ms = now_ms;
}

enum client_act client_gate_directive(struct client_gate *g, uint64_t epoch, bool replayed)
{
    if (epoch < g->given)
        return CLIENT_IGNORE_OLD;
    if (epoch > g->given || g->out_of_touch) {
        g->given = epoch;
        g->out_of_touch = false;
        g->acked_again = true;
        return CLIENT_GIVE;
    }
    /* A live repeat means that our acknowledgement was not seen; a replay comes with every resync. */
    if (replayed && g->acked_again)
        return CLIENT_NOTHING;
    g->acked_again = true;
    return CLIENT_ACK_AGAIN;
}

enum client_act client_gate_synced(struct client_gate *g)
{
    if (!g->up || !g->out_of_touch || g->given == 0)
        return CLIENT_NOTHING;
    g->out_of_touch = false;
    return CLIENT_GIVE;
}

enum client_act client_gate_lease(struct client_gate *g, int64_t now_ms, int64_t lease_ms)
{
    if (g->up || g->out_of_touch || now_ms - g->down_since_ms < lease_ms)
        return CLIENT_NOTHING;
    g->out_of_touch = true;
    return CLIENT_FREEZE;
}
