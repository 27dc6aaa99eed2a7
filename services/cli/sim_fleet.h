/* sim_fleet.h - what the files of the simulated fleet share: many agents in one process, on one connection and one loop. */
#ifndef REDOUBT_CLI_SIM_FLEET_H
#define REDOUBT_CLI_SIM_FLEET_H

#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "client/client_deed.h"
#include "client/client_gate.h"
#include <jansson.h>
#include <uthash.h>

#define FLEET_SAMPLES_MAX 200000

struct fleet_agent {
    char name[NAME_MAX_LEN + 1];
    struct client_gate gate;
    uint64_t epoch, acked; /* given last; highest whose acknowledgement is stored */
    int posture, before;   /* `before`: what the directive says, while it is out of touch */
    unsigned load;
    uint32_t load_turn;
    char llm[TARGET_MAX_LEN + 1];
    uint64_t beats, deeds;
    UT_hash_handle hh;
};
/* Since the last mark. */
struct fleet_marked {
    int64_t at_unix_ms;
    uint64_t given, repeats, old, acks, bad;
    uint32_t *ms; /* from a directive's issue to its acknowledgement on the stream, newest FLEET_SAMPLES_MAX */
    size_t n, cap, next;
};
struct fleet {
    struct cli *c;
    const struct opts_sim_fleet *o;
    struct settings *settings; /* NULL if it was not needed */
    struct loop loop;
    struct bus *bus;
    struct client_deeds deeds;
    struct fleet_agent *agents, *by_name;
    size_t n;
    char boot[17], instance[64];
    struct loop_timer tick, second, limit;
    uv_signal_t signals[3];
    bool stopping, synced, deeds_turn;
    int64_t began_ms;
    uint64_t beats, reports, acts; /* sent so far; which agent's turn it is */
    uint64_t deeds_open, not_taken, refused_here, ended[REDOUBT_ACT_UNKNOWN + 1], shed, acks;
    struct fleet_marked marked;
};

/* sim_fleet_agent.c: what the agents hear and say */
int fleet_listen(struct fleet *f);
void fleet_up(struct fleet *f);
void fleet_down(struct fleet *f);
void fleet_turn(struct fleet *f); /* after each turn of messages */
void fleet_leases(struct fleet *f);
void fleet_speak(struct fleet *f); /* what is due by now: heartbeats, reports, actions */
void fleet_deeds_init(struct fleet *f);

/* sim_fleet_sum.c: figures */
void fleet_sample(struct fleet *f, int64_t ms);
void fleet_mark(struct fleet *f);
/* One JSON line on stdout. */
void fleet_print(struct fleet *f, const char *event);

/* sim_fleet_conf.c: names and settings */
const char *fleet_name(const char *prefix, size_t i, char buf[static NAME_MAX_LEN + 1]);
/* The `agents:` of a settings file for this fleet, on stdout; an exit code. */
int fleet_print_settings(struct cli *c, const struct opts_sim_fleet *o);

#endif
