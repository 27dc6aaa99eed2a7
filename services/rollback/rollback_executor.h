/* rollback_executor.h - who runs the versions: one file per kind behind this table of functions.
 *
 * Everything is asynchronous: the callback comes once, later, on the loop. Every act may be asked for again, also after a crash in its middle: it looks first, and
 * does what is missing. Nothing is ever stopped before what replaces it stands. Volumes, data and images are never removed. */
#ifndef REDOUBT_ROLLBACK_EXECUTOR_H
#define REDOUBT_ROLLBACK_EXECUTOR_H

#include "common/service.h"
#include "rollback/rollback.h"

#define EXECUTOR_INSTANCES 64

/* A version as it was found running. */
struct executor_version {
    struct rollback_version v; /* id, name, digest, config_hash, data_schema, gaps */
    char image[512];
    char *spec; /* JSON, malloc'ed, zero-terminated; the executor's own form */
    size_t spec_len;
    char gap[8][256]; /* what could not be recorded, and why */
    size_t n_gaps;
};
struct executor_instance {
    char handle[129]; /* the executor's own: a container's id */
    char name[129];   /* for people */
    char version[ROLLBACK_ID];
    char address[128];      /* host:port; "" = none */
    char job[ROLLBACK_JOB]; /* which job made it; "" = deployed by others */
    int side;               /* 0 or 1 */
    bool running, ready;
    char why[160]; /* why it is not ready */
};
struct executor_view { /* valid only inside the callback */
    bool ok;
    bool lasting;      /* wrong settings or rights: it will not become better by itself */
    const char *error; /* what, where, what to do; "" if ok */
    const struct executor_instance *instances;
    size_t n;
    const struct executor_version *versions; /* every version of which instances stand */
    size_t n_versions;
};
struct executor_result {
    bool ok, lasting;
    const char *text; /* what, where, what to do; of `run` the end of its output */
};
typedef void (*executor_view_cb)(void *ctx, const struct executor_view *v);
typedef void (*executor_cb)(void *ctx, const struct executor_result *r);

/* A version that is to be made, from the registry. */
struct executor_order {
    const char *job;     /* its id: marks what is made */
    const char *version; /* id */
    const char *name, *image, *digest;
    const char *spec; /* JSON */
    size_t spec_len;
    int side;
    unsigned count; /* instances wanted (up), or that must be there in the end (scale) */
};

struct executor;
struct executor_kind {
    const char *name;
    bool gradual;   /* versions stand side by side */
    bool goes_home; /* the target ends on side 0 (struct rollback_rule) */
    /* NULL with the reason in e: wrong settings. `set` stays valid until close. Cheap, without I/O: --check opens and closes, too, and then s
     * has loop and settings only (bus, store, http and outbox are NULL). The same holds for traffic, checks and data. */
    struct executor *(*open)(struct service *s, const struct set_deployment *set, struct err *e);
    /* Cancels what is in hand: its callbacks do not come any more. Also of traffic, checks and data. */
    void (*close)(struct executor *x);
    void (*view)(struct executor *x, executor_view_cb cb, void *ctx);
    /* Changes nothing. Could this version be brought up? Missing image, room on the disk, rights, names taken, what cannot be carried over. */
    void (*check)(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
    void (*up)(struct executor *x, const struct executor_order *o, executor_cb cb,
               void *ctx); /* `count` instances exist and run; readiness is seen by view */
    void (*stop)(struct executor *x, const struct executor_order *o, executor_cb cb,
                 void *ctx); /* stopped, still there */
    void (*start)(struct executor *x, const struct executor_order *o, executor_cb cb,
                  void *ctx); /* what was stopped runs again */
    void (*settle)(struct executor *x, const struct executor_order *o, executor_cb cb,
                   void *ctx); /* takes the deployment's own name; may be NULL */
    void (*remove)(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
    void (*keep)(struct executor *x, const struct executor_order *o, bool keep, executor_cb cb,
                 void *ctx); /* may be NULL */
    /* Runs a command once in this version's image with its data; may be NULL. */
    void (*run)(struct executor *x, const struct executor_order *o, const char *const *argv, executor_cb cb,
                void *ctx);
};
/* kubernetes: a pair of Deployments (`canary` is set), or one Deployment by patch: not gradual, does not go home. */
extern const struct executor_kind executor_docker, executor_kubernetes, executor_kubernetes_patch, executor_exec;
const struct executor_kind *executor_of(const struct set_deployment *set);

/* Digest and configuration hash make the id. buf of ROLLBACK_ID. */
const char *executor_version_id(const char *digest, const char *config_hash, char *buf);
/* SHA-256 of a JSON value in its canonical form (sorted keys, compact), hexadecimal; buf of 65. */
const char *executor_config_hash(const void *json, char *buf);

#endif
