/* rollback_ask.h - what is known of deployments: from the stream of states, and fresher from redoubt-rollback, if it answers. */
#ifndef REDOUBT_CLI_ROLLBACK_ASK_H
#define REDOUBT_CLI_ROLLBACK_ASK_H

#include "cli/cli_bus.h"

struct rollback_docs { /* in order of name */
    PB(RollbackChanged) * *at;
    size_t n;
    bool synced;
};
/* The documents of all deployments, as they were announced. An exit code after saying why; free in both cases. */
int rollback_ask_all(struct cli_link *k, struct rollback_docs *ret);
void rollback_docs_free(struct rollback_docs *d);

/* One deployment's document (free with wire_free); *ret_live says whether the service itself has answered. An exit code after saying why. */
int rollback_ask_one(struct cli_link *k, const char *deployment, PB(RollbackChanged) * *ret, bool *ret_live);

struct rollback_records {
    PB(VersionRecord) * *at;
    size_t n;
    bool synced;
};
/* How its versions are made again. */
int rollback_ask_records(struct cli_link *k, const char *deployment, struct rollback_records *ret);
const PB(VersionRecord) * rollback_record(const struct rollback_records *r, const char *id); /* NULL if not there */
void rollback_records_free(struct rollback_records *r);

/* Takes a reply's payload as a document: NULL if there is none, or it is of something else. */
PB(RollbackChanged) * rollback_of_reply(const PB(CommandReply) * r);
/* Asks for the state once; the reply comes to cb. -1 if it cannot be asked. */
int rollback_ask_state(struct cli_link *k, const char *deployment, int64_t timeout_ms, bus_reply_cb cb, void *ctx);
/* False with the exit code in *ret after saying that `name` is no deployment's. */
bool rollback_name_ok(struct cli *c, const char *name, int *ret);

#endif
