/* alert_order.h - a person's order on its way: who asks, who is answered, and the record of it, which comes before the act. */
#ifndef REDOUBT_ALERT_ORDER_H
#define REDOUBT_ALERT_ORDER_H

#include "alert/alert_room.h"

#define ALERT_REPLY_MAX 256

struct alert_order {
    struct alert_room *room;
    char reply[ALERT_REPLY_MAX];
    const char *action; /* of its records: `alert.acknowledged`, ... */
    char *by, *reason, *subject;
    char id[65];      /* of the problem or the silence */
    int64_t until_ms; /* 0 = none */
    char *detail;     /* may be NULL: what else is on the record, e.g. matchers */
    PB(Silence) * silence;
    void (*act)(struct alert_order *o); /* once it is on the record */
};

/* The commands. */
void alert_on_list(struct service *s, const void *message, const struct bus_msg *m);    /* alert_list.c */
void alert_on_problem(struct service *s, const void *message, const struct bus_msg *m); /* alert_cmd_problem.c */
void alert_on_ack(struct service *s, const void *message, const struct bus_msg *m);
void alert_on_unack(struct service *s, const void *message, const struct bus_msg *m);
void alert_on_silence(struct service *s, const void *message, const struct bus_msg *m); /* alert_cmd_silence.c */
void alert_on_unsilence(struct service *s, const void *message, const struct bus_msg *m);
void alert_on_silences(struct service *s, const void *message, const struct bus_msg *m);

/* NULL after answering: who or why is missing, or memory is out. Keeps a reference to the room until it is freed. */
struct alert_order *alert_order_new(struct alert_room *r, const PB(AlertCommand) * c, const struct bus_msg *m,
                                    const char *action);
void alert_order_free(struct alert_order *o);
/* Writes the record, then calls act; answers, and frees the order, if the trail cannot record it. */
void alert_order_record(struct alert_order *o);
/* How it ended: on the record, and to who asked (unless the room closes). Frees it. */
void alert_order_end(struct alert_order *o, int command_status, uint64_t epoch, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same with a payload, which is packed. */
void alert_order_end_with(struct alert_order *o, const void *payload, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Answers OK with a message packed as payload. */
void alert_reply_payload(struct service *s, const char *reply, const void *payload, const char *text);
/* "2026-01-31T09:05:01Z" or so; "" for 0. */
const char *alert_order_time(int64_t unix_ms, char *buf, size_t size);

#endif
