/* sim_ledger.h - what the simulated backend was asked to do, per agent: how often, in which order, under which epoch. In bounded memory. */
#ifndef REDOUBT_CLI_SIM_LEDGER_H
#define REDOUBT_CLI_SIM_LEDGER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct sim_ledger;
struct sim_ledger *sim_ledger_open(void); /* NULL if memory is out */
void sim_ledger_close(struct sim_ledger *l);

/* An action has come. True if it is done now, false if its key was done before (it is remembered for a million others at least). `epoch` 0 = none
 * was said. Agents beyond 100,000 count as one, "". */
bool sim_ledger_take(struct sim_ledger *l, const char *agent, const char *key, uint64_t epoch, int64_t now_ms);
/* From now on nothing of that agent may come under this epoch, an older one or none. False if memory is out. */
bool sim_ledger_fence(struct sim_ledger *l, const char *agent, uint64_t epoch);
/* The whole as JSON: sums, `by_agent`, and the last 1,000 `remarks` (what was repeated, out of order, older, fenced). A new reference. */
json_t *sim_ledger_json(const struct sim_ledger *l);

#endif
