/* executor_docker.h - what the files of the docker executor share: one engine, and the acts in hand. */
#ifndef REDOUBT_ROLLBACK_EXECUTOR_DOCKER_H
#define REDOUBT_ROLLBACK_EXECUTOR_DOCKER_H

#include "rollback/docker_steps.h"

struct docker_op;
typedef void (*docker_then)(struct docker_op *op);

struct executor {
    struct service *service;
    const struct set_deployment *set;
    struct set_deployment own; /* `set`, where the compose project is that of this service's own container */
    struct docker_api *api;
    struct docker_cache cache;
    struct docker_op *ops;
};
/* One thing that was asked of the executor, until its answer. */
struct docker_op {
    struct executor *x;
    executor_cb cb;
    executor_view_cb view_cb;
    void *ctx;
    struct docker_look *look; /* under way */
    struct docker_aim aim;    /* its texts are these */
    char job[ROLLBACK_JOB], version[ROLLBACK_ID], digest[129];
    json_t *spec;
    char image[129];       /* id of the image that is there; "" = none */
    json_t *image_is;      /* what inspect says of it */
    char image_error[400]; /* why it is not known */
    bool image_lasting;
    docker_then then;
    bool deferred; /* its answer is on the way */
    unsigned steps, conflicts;
    char id[DOCKER_ID]; /* of the container at hand */
    char said[256];     /* what was done, for people */
    /* check */
    json_t *questions; /* paths that must be there, with the words if not */
    size_t question;
    /* run */
    char **argv;
    long long code;
    struct docker_op *prev, *next;
};

/* The order is copied. NULL if its spec cannot be read: the answer comes later, and nothing more is to be done. */
struct docker_op *docker_op_new(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
void docker_op_free(struct docker_op *op);
__attribute__((format(printf, 4, 5))) void docker_op_end(struct docker_op *op, bool ok, bool lasting, const char *fmt,
                                                         ...);
void docker_op_call(struct docker_op *op, const char *method, const char *path, const json_t *body,
                    int64_t timeout_ms, docker_cb cb);
/* Which image of this host is the version's: by its digest, or by the tag that keeps it. */
void docker_op_image(struct docker_op *op, docker_then then);
/* "redoubt/keep" and "DEPLOYMENT.VERSION". */
void docker_keep_tag(const struct docker_op *op, char *buf, size_t size);
/* Words for an image that is not there. */
void docker_no_image(const struct docker_op *op, char *buf, size_t size);

/* executor_docker_act.c */
void docker_up(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
void docker_stop(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
void docker_start(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
void docker_settle(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
void docker_remove(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
/* executor_docker_check.c */
void docker_check(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx);
/* Is there room for containers where the engine keeps them? False with the words; true also if that cannot be seen from here. */
bool docker_room(const char *root, uint64_t least_bytes, char *why, size_t size);
/* executor_docker_run.c */
void docker_run(struct executor *x, const struct executor_order *o, const char *const *argv, executor_cb cb,
                void *ctx);
/* What a container has said, out of the engine's frames, as one line; buf. */
const char *docker_log_text(const char *body, size_t len, bool tty, char *buf, size_t size);

#endif
