/* traffic_haproxy_plan.h - pure: what HAProxy's answers say, and which commands bring its servers where they are wanted. */
#ifndef REDOUBT_TRAFFIC_HAPROXY_PLAN_H
#define REDOUBT_TRAFFIC_HAPROXY_PLAN_H

#include "common/err.h"
#include "rollback/rollback_traffic.h"

#define TRAFFIC_SERVERS     64  /* of one side, as in the settings */
#define TRAFFIC_COMMAND_MAX 512 /* one command */

struct traffic_server {
    const char *name; /* of the settings */
    bool there;
    char host[64];
    int port;
    bool maint, drain; /* administratively */
    bool down;         /* HAProxy's own health check says so, or its name does not resolve */
    unsigned weight, sessions;
};
/* A backend as it stands. */
struct traffic_haproxy {
    const char *backend;
    size_t n[2];
    struct traffic_server server[2][TRAFFIC_SERVERS];
    char stranger[129]; /* a server of neither side that takes traffic; "" = none */
    char algorithm[32]; /* "" = it does not say */
};
/* Where a server is wanted. */
struct traffic_wanted {
    struct {
        bool used; /* it has an instance; others are in maintenance, with weight 0 */
        char host[64];
        int port; /* 0 = its address is left alone */
        unsigned weight;
    } server[2][TRAFFIC_SERVERS];
};

/* Names come from the settings and are referred to. */
void traffic_haproxy_init(struct traffic_haproxy *h, const struct set_rb_traffic *set);
/* What is asked to see the backend; its answer goes to read. */
void traffic_haproxy_question(const struct traffic_haproxy *h, char line[static TRAFFIC_COMMAND_MAX]);
/* 0, or -1 with what is wrong and what to do. */
int traffic_haproxy_read(struct traffic_haproxy *h, const char *answer, struct err *e, bool *ret_lasting);
/* Percent by the weights of the servers that take new work; both 0 if none does. They add up to 100 otherwise. */
void traffic_haproxy_shares(const struct traffic_haproxy *h, int share[2]);
/* The same, compared with what stands: weight of a server whose address is no instance's of its side is nobody's, while a ready instance of that side is at no
 * server that serves. So one that has just died takes nothing from its side, and one that came later is no fault. They add up to 100 with *nobody. */
void traffic_haproxy_found(const struct traffic_haproxy *h, const struct executor_instance *at, size_t n,
                           int share[2], int *nobody);
/* An instance keeps the server that has its address already. -1: a side is to get traffic and nothing can take it. */
int traffic_haproxy_want(const struct traffic_haproxy *h, const struct traffic_order *o, bool set_address,
                         struct traffic_wanted *ret, struct err *e, bool *ret_lasting);

/* In this order: READY brings servers up without traffic. Then the backend is read again. RAISE, then LOWER. */
enum traffic_phase { TRAFFIC_READY, TRAFFIC_RAISE, TRAFFIC_LOWER };
/* The next command from *at on (0 at first); false: there are no more. */
bool traffic_haproxy_command(const struct traffic_haproxy *h, const struct traffic_wanted *w,
                             enum traffic_phase phase, size_t *at, char command[static TRAFFIC_COMMAND_MAX]);
/* A server that is to take traffic and cannot: false with the words. */
bool traffic_haproxy_able(const struct traffic_haproxy *h, const struct traffic_wanted *w, struct err *e);
/* Did all the commands succeed? 0, or -1 with HAProxy's words and what to do about them. */
int traffic_haproxy_said(const char *answer, struct err *e, bool *ret_lasting);

#endif
