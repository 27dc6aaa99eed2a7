/* fallback_doc.h - an agent's document and directive as bytes. */
#ifndef REDOUBT_FALLBACK_DOC_H
#define REDOUBT_FALLBACK_DOC_H

#include "common/wire.h"
#include "fallback/fallback.h"

/* Bytes that somebody owns. */
struct bytes {
    void *data;
    size_t len;
};
void bytes_free(struct bytes *b);
bool bytes_copy(struct bytes *to, const void *data, size_t len); /* false if memory is out; `to` is freed first */

/* Fills a message that points into d and agent; valid as long as both are. Nothing is allocated. */
void fallback_doc_fill(PB(AgentState) * m, const char *agent, const struct fallback_doc *d);
/* Takes a valid message; -1 if it is none of ours (text in e). */
int fallback_doc_take(struct fallback_doc *d, const char *agent, const PB(AgentState) * m, struct err *e);
/* The directive of d's epoch, packed. data NULL if it could not be (text in e). */
struct bytes fallback_directive_pack(const char *agent, const struct fallback_doc *d, uint64_t fence,
                                     int64_t now_unix_ms, int64_t ack_ms, struct err *e);
/* Appends packed OwedNotices to a packed AgentState that has none yet; false if it cannot be (text in e, doc is as it was or longer). */
bool fallback_doc_owe(struct bytes *doc, const struct bytes *const owed[], size_t n, struct err *e);

#endif
