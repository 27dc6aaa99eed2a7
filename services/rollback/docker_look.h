/* docker_look.h - which containers of a deployment stand: asked of the engine, one call after the other. */
#ifndef REDOUBT_ROLLBACK_DOCKER_LOOK_H
#define REDOUBT_ROLLBACK_DOCKER_LOOK_H

#include "rollback/docker_api.h"
#include "rollback/docker_found.h"

struct docker_sight { /* valid only inside the callback */
    bool ok, lasting;
    const char *error;
    struct docker_container *c;
    size_t n;
    const json_t *list; /* every container of the engine, as it lists them */
};
typedef void (*docker_look_cb)(void *ctx, const struct docker_sight *s);

/* What does not change is asked for once: images by id, files by container and start. */
struct docker_cache {
    json_t *images, *files;
    /* Not NULL: the settings name no compose project, and it is that of the container that this service runs in. The set that is given to a look points here; "" = not
     * known yet. */
    char *project;
    char own[DOCKER_ID]; /* id of that container; "" = this service runs in none */
};
void docker_cache_done(struct docker_cache *c);

struct docker_look;
/* cb comes once, later. */
struct docker_look *docker_look_start(struct docker_api *api, const struct set_deployment *set,
                                      struct docker_cache *cache, docker_look_cb cb, void *ctx);
/* Only after docker_api_close(): then nothing comes any more. */
void docker_look_free(struct docker_look *l);

#endif
