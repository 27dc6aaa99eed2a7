/* order.h - orders of operators: what they must say, and their way from whichever replica takes them to the one that acts.
 *
 * Commands are served by a queue group: any replica gets one. If it does not act for what the order is about, it asks all of
 * them on a subject of the room's own; the one that acts answers there, and its answer goes to whoever gave the order. */
#ifndef REDOUBT_ORDER_H
#define REDOUBT_ORDER_H

#include "common/service.h"

#define ORDER_REPLY 160 /* room for a reply subject */

/* One per room; kept by reference. */
struct order_way {
    const char *any;                        /* subject before the verb where any replica takes it, ... */
    const char *acts;                       /* ... and where all hear it and the one that acts answers */
    const ProtobufCMessageDescriptor *desc; /* of the order */
    /* Nobody that acts has answered: must answer, as a command's handler; of m there are subject and reply. Not called after
     * the service's end. */
    service_on_message nobody;
};

/* The verb, whichever way the order came; NULL if by neither. */
const char *order_verb(const struct order_way *w, const struct bus_msg *m);
/* Can it be answered? False if its verb is not known, or its reply subject none or too long to keep: it is counted and logged
 * as bad input. */
bool order_fit(struct service *s, const struct order_way *w, const struct bus_msg *m, bool known);
/* What is missing for the audit trail, a text for people; NULL = nothing. A reason of NULL = none is required. */
const char *order_unsaid(const char *by, const char *reason);
/* To whoever acts. The order is answered in any case, `nobody` sees to it after patience_ms at the latest. */
void order_pass_on(struct service *s, const struct order_way *w, const char *verb, int64_t patience_ms,
                   const struct bus_msg *m);
/* For `nobody` that knows nothing more: the answer that no replica acts for `what`. */
void order_unheard(struct service *s, const char *reply, const char *what);

#endif
