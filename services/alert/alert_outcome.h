/* alert_outcome.h - what the end of one attempt means for an alert: a table, pure. */
#ifndef REDOUBT_ALERT_OUTCOME_H
#define REDOUBT_ALERT_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

/* What a channel speaks. */
enum alert_proto {
    ALERT_PROTO_SMTP,
    ALERT_PROTO_HTTP,
    ALERT_PROTO_FILE,
    ALERT_PROTO_HAND, /* syslog, NATS: handed over, status 0; or the stream's number for why not */
    ALERT_PROTO_EXEC, /* a program: status is its exit code */
};
#define ALERT_PROTOS (ALERT_PROTO_EXEC + 1)

/* How an attempt ended. */
enum alert_fault {
    ALERT_FAULT_NONE,     /* an answer came: see status */
    ALERT_FAULT_RESOLVE,  /* name not found */
    ALERT_FAULT_CONNECT,  /* refused, no route */
    ALERT_FAULT_TLS,      /* no trusted connection */
    ALERT_FAULT_TIMEOUT,  /* no answer in time; it may have been taken all the same */
    ALERT_FAULT_CUT,      /* the connection ended in the middle; same */
    ALERT_FAULT_ANSWER,   /* an answer that the protocol does not know */
    ALERT_FAULT_LOGIN,    /* name or password refused */
    ALERT_FAULT_SETTINGS, /* the channel cannot work as it is set up */
    ALERT_FAULT_DISK,     /* the file could not be written or synced */
    ALERT_FAULT_LATE,     /* it waited in the channel's queue until its time there was over */
    ALERT_FAULT_SKIPPED,  /* not tried: the channel is broken and not yet due for its next probe */
    ALERT_FAULT_OVERFLOW, /* not tried: its queue is full, or too many are before it for what the channel takes a minute */
    ALERT_FAULT_OTHER,
};
#define ALERT_FAULTS (ALERT_FAULT_OTHER + 1)

struct alert_outcome {
    enum alert_fault fault;
    int status;             /* SMTP or HTTP, or as the protocol says; 0 if none */
    int64_t retry_after_ms; /* -1 = not said */
};

enum alert_class {
    ALERT_CLASS_ACCEPTED, /* the channel has taken responsibility */
    ALERT_CLASS_AGAIN,    /* temporary: again after a pause */
    ALERT_CLASS_QUICK,    /* nobody there: once more at once, then the next channel */
    ALERT_CLASS_REJECTED, /* for good, but only this message */
    ALERT_CLASS_REFUSED,  /* for good, whatever the message: the channel needs a person */
    ALERT_CLASS_PASSED,   /* not tried */
    ALERT_CLASS_OVERFLOW, /* not tried, and no fault of the channel's: it works, but takes no more now */
};
enum alert_class alert_classify(enum alert_proto proto, const struct alert_outcome *o);
const char *alert_fault_text(enum alert_fault f);

#endif
