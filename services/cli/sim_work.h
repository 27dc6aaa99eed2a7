/* sim_work.h - what the simulated agent does besides asking its LLM: acts through the guard, monitors, restarts. */
#ifndef REDOUBT_CLI_SIM_WORK_H
#define REDOUBT_CLI_SIM_WORK_H

#include "client/redoubt.h"
#include <jansson.h>
#include <stdatomic.h>

struct sim_work {
    const char *action; /* its name; parameter `ip` */
    unsigned timeout_ms;
    bool verbose; /* a line for each action, not only when they end in another way than before */
    /* A line for stdout; from any thread; takes the reference. */
    void (*tell)(void *ctx, json_t *line);
    void *ctx;
    _Atomic uint64_t asked, over, not_taken, ended[REDOUBT_ACT_UNKNOWN + 1]; /* by enum redoubt_acted */
    _Atomic bool restart;                                                    /* asked for */
    uint64_t n, shown;                                                       /* loop thread */
    int last; /* libredoubt's thread, likewise the next */
    int last_refusal;
};
/* One action more. Loop thread. */
void sim_work_act(struct sim_work *w, redoubt *r);
/* The numbers so far, of actions that are over; NULL if there are no new ones since it was last asked. Loop thread. */
json_t *sim_work_news(struct sim_work *w);
json_t *sim_work_sums(struct sim_work *w);
/* From libredoubt's thread: */
void sim_work_monitor(struct sim_work *w, redoubt_monitor *m);
void sim_work_restart(struct sim_work *w, uint64_t epoch);

/* How often this process has begun anew by sim_work_exec(): 0 = it is the first. */
long sim_work_restarts(void);
/* Begins this very command anew in the same process; returns only if that cannot be. */
void sim_work_exec(void);

#endif
