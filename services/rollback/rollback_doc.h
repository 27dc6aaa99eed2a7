/* rollback_doc.h - the document of a deployment, which is its journal, as bytes: whole, both ways. */
#ifndef REDOUBT_ROLLBACK_DOC_H
#define REDOUBT_ROLLBACK_DOC_H

#include "common/wire.h"
#include "rollback/rollback.h"

/* Bytes that somebody owns. */
struct rollback_bytes {
    void *data;
    size_t len;
};
void rollback_bytes_free(struct rollback_bytes *b);
bool rollback_bytes_copy(struct rollback_bytes *to, const void *data,
                         size_t len); /* false if memory is out; `to` is freed first */

/* What fits into a reply together with its text. */
#define ROLLBACK_DOC_MAX (MESSAGE_MAX - 4096)

/* Packed RollbackChanged; data NULL with the reason in e. The rule gives what the document itself does not hold: classes and limits of the
 * checks, the plan in words. If it would be too long, the oldest of the history are left out of d itself: what is stored is what is known. */
struct rollback_bytes rollback_doc_pack(struct rollback_doc *d, const struct rollback_rule *rule, struct err *e);
/* Takes a valid message; -1 if it is none of ours (text in e), d is as it was then. */
int rollback_doc_take(struct rollback_doc *d, const char *deployment, const PB(RollbackChanged) * m, struct err *e);
/* The same from bytes. */
int rollback_doc_unpack(struct rollback_doc *d, const char *deployment, const void *data, size_t len, struct err *e);

/* Texts come from programs and are cut to size: what is left of a character at the end would make a whole message invalid, so it goes. */
void rollback_text_clean(char *text);

/* A plan as a message: filled for as long as `x` is not touched. */
struct rollback_plan_message {
    PB(RollbackPlan) m;
    PB(RollbackStep) step[ROLLBACK_STEPS];
    PB(RollbackStep) * steps[ROLLBACK_STEPS];
    char line[48][512];
    char *lines[48];
    char from[ROLLBACK_ID], to[ROLLBACK_ID], from_name[ROLLBACK_NAME], to_name[ROLLBACK_NAME],
        snapshot[ROLLBACK_SNAPSHOT];
};
void rollback_plan_fill(struct rollback_plan_message *x, const struct rollback_doc *d,
                        const struct rollback_rule *rule, const struct rollback_plan *p, const char *from,
                        const char *to);

/* A version of the document by its id; NULL if it is not known. */
const struct rollback_version *rollback_doc_version(const struct rollback_doc *d, const char *id);
/* What people call it; the id if it has no name there. */
const char *rollback_doc_name(const struct rollback_doc *d, const char *id);

#endif
