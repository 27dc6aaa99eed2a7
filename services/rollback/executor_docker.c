/* executor_docker.c - versions as containers of a Docker Engine, by its API over a unix socket. */
#include "rollback/rollback_executor.h"
#include <stdlib.h>

struct executor {
    struct service *service;
    const struct set_deployment *set;
};

static struct executor *docker_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    struct executor *x = calloc(1, sizeof *x);
    if (!x) {
        err_set(e, "deployment %s: memory is out", set->name);
        return NULL;
    }
    x->service = s;
    x->set = set;
    return x;
}

static void docker_close(struct executor *x)
{
    free(x);
}

const struct executor_kind executor_docker = {
    .name = "docker", .gradual = true, .goes_home = false, .open = docker_open, .close = docker_close};
