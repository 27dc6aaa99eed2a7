/* bench_alert_failover.c - how long until the next channel has taken an alert, for every way in which the first can fail.
 *
 * From the start of the first attempt on the broken channel to the acceptance by the next one. Bounds: at once for what is for good (and for
 * what is not there: after a second try 100 ms later), the broken channel's deadline for everything else. */
#include "../integration/failover_town.h"
#include "bench.h"

enum { ROUNDS = 5 };
#define AT_ONCE_MS 250 /* two processes, NATS, a synced outbox and a busy machine between the two receipts */
#define SLACK_MS   500

int main(int argc, char **argv)
{
    struct bench *b = bench_open(argc, argv);
    static struct failover_town f;
    char dir[1024];
    void *state = NULL;
    snprintf(dir, sizeof dir, "%s", bench_program(b, "redoubt-alert"));
    *strrchr(dir, '/') = 0;
    setenv("REDOUBT_BIN", dir, 1);
    if (town_setup(&state))
        return 1;
    failover_start(&f, state);
    static double times[FAILOVER_CASES][ROUNDS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        printf("alert: %zu ways to fail, round %u of %d...\n", FAILOVER_CASES, round + 1, ROUNDS);
        fflush(stdout);
        for (int together = 0; together < 2; together++) { /* those that take seconds, all at once */
            for (size_t i = 0; i < FAILOVER_CASES; i++) {
                if ((failover_cases[i].kind == FAILOVER_DEADLINE) != together)
                    continue;
                failover_raise(&f, i, round);
                if (!together)
                    failover_wait(&f, i);
            }
        }
        for (size_t i = 0; i < FAILOVER_CASES; i++) {
            failover_wait(&f, i);
            times[i][round] = (double)(f.got[i].told_unix_ms - f.got[i].first_unix_ms);
        }
        /* A new process tries each of them again as one that may work: no alert goes past it unseen. */
        if (round + 1 < ROUNDS) {
            (void)harness_stop(f.t->alert);
            harness_start(f.t->alert);
        }
    }
    for (size_t i = 0; i < FAILOVER_CASES; i++) {
        bool deadline = failover_cases[i].kind == FAILOVER_DEADLINE;
        double bound = deadline ? FAILOVER_DEADLINE_MS + SLACK_MS : AT_ONCE_MS;
        char name[96];
        snprintf(name, sizeof name, "alert: failover from %s, worst of %d", failover_cases[i].name, ROUNDS);
        bench_row(b, name, "ms", bench_percentile(times[i], ROUNDS, 100), deadline ? "its deadline" : "at once",
                  bound, 1);
    }
    /* Parts of the town that are for tests. */
    (void)mode;
    (void)command;
    (void)receipts;
    (void)told;
    failover_stop(&f);
    int code = bench_close(b);
    return town_teardown(&state) ? 1 : code;
}
