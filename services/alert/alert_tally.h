/* alert_tally.h - what many alerts come to: problems, how bad, which are over, which are worth showing. Pure, and of a fixed size, however many
 * alerts are told to it. */
#ifndef REDOUBT_ALERT_TALLY_H
#define REDOUBT_ALERT_TALLY_H

#include "alert/alert_message.h"

#define ALERT_TALLY_KEYS                                                                                             \
    2000 /* problems that are told apart; of more only the alerts are counted, the mildest first */
#define ALERT_TALLY_SLOTS  4096
#define ALERT_TALLY_LEVELS 5 /* of severity; 0 is none */

struct alert_tally_problem {
    unsigned char key[16]; /* hash of the dedup_key */
    uint64_t seq;          /* of its last alert: that is shown */
    uint64_t first_seq;
    uint32_t alerts;
    uint8_t severity; /* of the last alert */
    bool resolved;    /* the last alert says so */
};
struct alert_tally {
    struct alert_tally_problem problems[ALERT_TALLY_KEYS];
    uint16_t slots[ALERT_TALLY_SLOTS]; /* place in problems + 1, found by key */
    size_t n;
    size_t gone;                            /* slots of problems that had to make room */
    size_t at_rank[2 * ALERT_TALLY_LEVELS]; /* problems that are told apart, by how much they are worth showing */
    uint64_t alerts;                        /* all of them */
    uint64_t by_level[ALERT_TALLY_LEVELS];  /* alerts that say that something is wrong, by severity */
    uint64_t untold_apart;                  /* alerts of problems that there was no room for */
    int worst_apart;                        /* the worst severity of those that are there still; 0 = none */
    uint64_t first_seq, last_seq;
    int64_t from_unix_ms, to_unix_ms;
};
void alert_tally_clear(struct alert_tally *t);
/* In order of seq. */
void alert_tally_add(struct alert_tally *t, const PB(Alert) * a, uint64_t seq);
/* The problems that are most worth showing, up to max: those that are there before those that are over, the worse before the milder, the older
 * before the newer. Returns how many; ret gets their places in `problems`. */
size_t alert_tally_worst(const struct alert_tally *t, size_t max, size_t *ret);
size_t alert_tally_over(const struct alert_tally *t); /* problems that are over */
/* The worst severity of what is there still; of all, if all are over. */
int alert_tally_severity(const struct alert_tally *t);
bool alert_tally_resolved(const struct alert_tally *t); /* all are over */

#endif
