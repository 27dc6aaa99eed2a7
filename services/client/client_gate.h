/* client_gate.h - which directives reach the agent, and when it must freeze by itself: pure, no I/O, no clock.
 *
 * An epoch is given once, in growing order. The one exception: after the agent was told "out of touch", the last directive is given
 * again, because the agent has left the position that it described. */
#ifndef REDOUBT_CLIENT_GATE_H
#define REDOUBT_CLIENT_GATE_H

#include <stdbool.h>
#include <stdint.h>

enum client_act {
    CLIENT_NOTHING,
    CLIENT_GIVE,       /* call on_directive with it, acknowledge its answer */
    CLIENT_ACK_AGAIN,  /* known: say so again */
    CLIENT_IGNORE_OLD, /* older than what was given; counted */
    CLIENT_FREEZE,     /* call on_directive with "out of touch" */
};
struct client_gate {
    uint64_t given; /* highest epoch given; 0 = none */
    bool up;
    bool acked_again; /* since the connection came up: replays go on, acknowledgements need not */
    bool out_of_touch;
    int64_t down_since_ms; /* while !up */
};

void client_gate_init(struct client_gate *g, int64_t now_ms);
void client_gate_up(struct client_gate *g);
void client_gate_down(struct client_gate *g, int64_t now_ms);
/* A directive came; `replayed` = from the stream, not live. After CLIENT_GIVE the epoch counts as given. */
enum client_act client_gate_directive(struct client_gate *g, uint64_t epoch, bool replayed);
/* The present was replayed in full: CLIENT_GIVE = the last directive that is known, again. */
enum client_act client_gate_synced(struct client_gate *g);
/* When the connection has been down for lease_ms: CLIENT_FREEZE, once. */
enum client_act client_gate_lease(struct client_gate *g, int64_t now_ms, int64_t lease_ms);

#endif
