/* alert_ask.h - what the commands about alerts share: asking the service, and what it has told people of a problem so far. */
#ifndef REDOUBT_CLI_ALERT_ASK_H
#define REDOUBT_CLI_ALERT_ASK_H

#include "cli/cli_bus.h"

/* The unpacked payload of an answer; NULL after saying why, with the exit code in *ret. An empty payload is a message of zeroes. */
void *alert_ask(struct cli_link *k, const char *verb, const PB(AlertCommand) * m,
                const ProtobufCMessageDescriptor *desc, int *ret);

/* All problems, page by page, up to `most`; in *ret_total how many there are. An exit code; free in both cases. */
struct alert_problems {
    PB(ProblemChanged) * *at;
    size_t n;
    uint64_t total;
};
int alert_ask_all(struct cli_link *k, bool resolved, size_t most, struct alert_problems *ret);
void alert_problems_free(struct alert_problems *p);

/* The receipts about one problem that the stream still holds, from since_unix_ms on, oldest first. An exit code; free in both cases. */
struct alert_receipts {
    PB(DeliveryReceipt) * *at;
    size_t n;
    bool cut; /* there were more, or they did not all come in time */
};
int alert_receipts_read(struct cli_link *k, const char *dedup_key, int64_t since_unix_ms, struct alert_receipts *ret);
void alert_receipts_free(struct alert_receipts *r);

void alert_print_json(const void *message);

#endif
