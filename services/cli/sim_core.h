/* sim_core.h - what every simulator shares: options, the way it fails, the record of what came, control, signals. Private to sim_*.c.
 *
 * All on one thread and one loop. A simulator listens on its own port and, for control, on a second one that stays when the first is
 * closed by mode `refuse`; HTTP simulators answer control on their own port too. */
#ifndef REDOUBT_CLI_SIM_CORE_H
#define REDOUBT_CLI_SIM_CORE_H

#include <jansson.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct sim;
struct sim_http;
struct sim_request;

struct sim_mode {
    const char *name;
    const char *help;
};
struct sim_option { /* --name ARG; arg NULL = a flag, whose value is "" */
    const char *name, *arg, *help;
};
#define SIM_OPTIONS_MAX 4
struct sim_kind {
    const char *name;
    const char *about;
    const struct sim_mode *modes; /* ends with a NULL name; the first is `ok`; `refuse` is the core's business */
    /* Starts to serve on a listening socket (which it owns from now on, also on failure); 0 or -1. */
    int (*open)(struct sim *s, int fd);
    /* Stops serving and cuts every connection; what is not yet answered never will be. NULL-safe: may be called twice. */
    void (*close)(struct sim *s);
    void (*mode_changed)(struct sim *s);        /* connections that hang are let go; may be NULL */
    json_t *(*state)(struct sim *s);            /* added to what control tells; may be NULL. A new reference */
    struct sim_option options[SIM_OPTIONS_MAX]; /* of its own */
    /* More that control can be told, below /sim/; NULL = no such thing. May be NULL. A new reference */
    json_t *(*order)(struct sim *s, const char *method, const char *path, const json_t *body, int *ret_status);
    const char *order_help; /* lines for --help; NULL = none */
    bool graceful;          /* SIGTERM: takes no more connections, and ends when what it has in hand is answered */
    bool http_control;      /* control is answered on its own port as well */
    /* HTTP simulators: answers one request (sim_http.h). */
    enum MHD_Result (*serve)(struct sim_request *r);
};

struct sim {
    const struct sim_kind *kind;
    uv_loop_t loop;
    int port, control_port;
    const char *address; /* that it listens on: 127.0.0.1 unless told otherwise */
    int guard_fd;        /* bound and not listening: keeps the port ours while it is closed */
    const struct sim_mode *mode;
    int64_t slow_ms, retry_after_s;
    int64_t count;                       /* requests that the mode still holds for; 0 = until it is changed */
    const char *values[SIM_OPTIONS_MAX]; /* of options; NULL = not given */
    bool open, stopping, leaving;
    int64_t leave_ms; /* monotonic: then it ends come what may */
    uv_timer_t leaving_timer;
    json_t *requests; /* the newest REQUESTS_MAX */
    uint64_t received;
    uv_signal_t signals[3];
    uv_async_t apply; /* opens or closes as the mode says, outside of any callback of the servers */
    struct sim_http *service, *control;
    void *state;
};

int sim_run(const struct sim_kind *kind, int argc, char **argv);

/* The mode for one more request; counts it. */
const char *sim_take_mode(struct sim *s);
/* Keeps what came; takes the reference. */
void sim_received(struct sim *s, json_t *request);
/* False with a text in why (a literal or `mode` names) if it is not a mode of this simulator. */
bool sim_set_mode(struct sim *s, const char *name);
/* Opens or closes the port as the mode says: now (not from a callback of the port's own server), or as soon as the loop turns. */
void sim_apply_now(struct sim *s);
void sim_apply(struct sim *s);
bool sim_wants_open(const struct sim *s);

/* Answers /sim/...: a new reference to the JSON answer and its status. */
json_t *sim_control(struct sim *s, const char *method, const char *path, const char *body, size_t len,
                    int *ret_status);

#endif
