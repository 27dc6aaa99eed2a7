/* sim_mind.h - the judgement of the simulated agent, and how it can go wrong. */
#ifndef REDOUBT_CLI_SIM_MIND_H
#define REDOUBT_CLI_SIM_MIND_H

#include "client/redoubt.h"
#include <stdatomic.h>

struct sim_mind {
    unsigned ways;    /* in which it misbehaves */
    _Atomic bool bad; /* it does so now */
    _Atomic uint64_t progress, exceptions;
    uint64_t decided;
    char *held; /* memory that it does not give back */
};

/* A list as in "malformed,stuck"; "" = none; `well` = not at first. False: `which` names the word that is none of them. */
bool sim_mind_init(struct sim_mind *m, const char *ways, bool well, char which[32]);
void sim_mind_recover(struct sim_mind *m); /* it does not misbehave, until it is turned */
void sim_mind_done(struct sim_mind *m);
/* The other way now: true = it misbehaves from now on. Loop thread. */
bool sim_mind_turn(struct sim_mind *m);
/* Looks at an event of its own making, and says what it decides. Loop thread. */
void sim_mind_decide(struct sim_mind *m, redoubt *r, bool may_act);
/* The answer to a self-test as JSON, malloc'ed; NULL if there is none, and why. m NULL = one that is well. */
char *sim_mind_judge(const struct sim_mind *m, const char *event_json, const char **ret_error);
/* From libredoubt's thread: */
void sim_mind_answer(const struct sim_mind *m, redoubt *r, const redoubt_selftest *q);
void sim_mind_heartbeat(struct sim_mind *m, uint64_t *progress, uint64_t *exceptions, uint32_t *queue_depth);

#endif
