/* continuity_ask.h - what the commands about incidents and objectives share: asking the service, and reading what it announced last if it does not answer. */
#ifndef REDOUBT_CLI_CONTINUITY_ASK_H
#define REDOUBT_CLI_CONTINUITY_ASK_H

#include "cli/cli_bus.h"

#define CONTINUITY_ASKS "redoubt" /* a question need not say who asks, but no message is empty */
/* The unpacked payload of an answer to what only reads (asked again until a replica answers); NULL after saying why, with the exit code in *ret. */
void *continuity_ask(struct cli_link *k, const char *verb, const PB(ContinuityCommand) * m,
                     const ProtobufCMessageDescriptor *desc, int *ret);

/* Incidents, newest first, up to `most`. */
struct incident_lines {
    PB(IncidentLine) * *at;
    size_t n;
    uint32_t open, in_all;
    bool more; /* there are more than `most` */
    bool live; /* the service has answered; otherwise this is what it announced last */
};
/* An exit code after saying why; free in both cases. */
int incident_ask_lines(struct cli_link *k, bool closed, size_t most, struct incident_lines *ret);
void incident_lines_free(struct incident_lines *l);

/* Which incident `text` means: an id, the only id that begins so, or the key of one that is open. The id goes to ret. An exit code after saying why. */
#define INCIDENT_ASK_ID 65
int incident_ask_id(struct cli_link *k, const char *text, char ret[static INCIDENT_ASK_ID]);
/* One in full (free with wire_free). An exit code after saying why. */
int incident_ask_one(struct cli_link *k, const char *text, PB(IncidentChanged) * *ret, bool *ret_live);

/* A document of the stream of states under this subject, NULL if there is none. */
void *continuity_ask_doc(struct cli_link *k, const char *subject, const ProtobufCMessageDescriptor *desc);

#endif
