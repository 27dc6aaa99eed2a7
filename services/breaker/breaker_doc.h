/* breaker_doc.h - the document as a message of the contract, and back. */
#ifndef REDOUBT_BREAKER_DOC_H
#define REDOUBT_BREAKER_DOC_H

#include "breaker/breaker.h"
#include "common/wire.h"

/* A message with all that it points to; the forced_* texts are b's. */
struct breaker_message {
    PB(BreakerChanged) m;
    PB(BreakerPermit) permit;
    PB(BreakerTotals) totals;
    char detail[192];
};
void breaker_doc_fill(struct breaker_message *x, const char *target, const struct breaker *b);
void breaker_doc_totals(PB(BreakerTotals) * m, const struct breaker_totals *t);
/* Refuses what no breaker of this target can be. Texts of *b point into m. 0 or -1; *b is untouched then. */
int breaker_doc_read(struct breaker *b, const PB(BreakerChanged) * m, const char *target, struct err *e);

#endif
