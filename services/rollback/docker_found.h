/* docker_found.h - one container of a deployment, as inspect says it. Pure. */
#ifndef REDOUBT_ROLLBACK_DOCKER_FOUND_H
#define REDOUBT_ROLLBACK_DOCKER_FOUND_H

#include "rollback/docker_spec.h"

struct docker_container {
    struct executor_instance i; /* handle is the container's id */
    struct rollback_version v;
    char home[129];    /* the name that it is to have in the end; of others': that it has */
    char policy[32];   /* restart policy; "" = no */
    char finished[40]; /* when it ended last: later ones sort higher */
    bool ours;         /* made by this service */
    bool fresh;        /* made, never started */
    bool removes_itself;
    unsigned index; /* which of its version's instances, from 0 */
    json_t *inspect, *image, *spec;
};

/* Does an entry of the list of containers belong to the deployment? */
bool docker_belongs(const json_t *entry, const struct set_deployment *set);
/* Which container is this process in? Its id, by what /proc/self/mountinfo says of the files that an engine puts into each: false = in none. */
bool docker_own_id(const char *mountinfo, char buf[static DOCKER_ID]);
/* The compose project of the container `id` in the engine's list; false = it is not there, or of no project. */
bool docker_own_project(const json_t *list, const char *id, char buf[static DOCKER_PROJECT]);
/* Reads all; references to inspect and image are taken over. Clean up by docker_container_done(). */
void docker_container_read(struct docker_container *c, json_t *inspect, json_t *image,
                           const struct set_deployment *set, int64_t now_unix_ms);
void docker_container_done(struct docker_container *c);
/* The name without a slash that an entry of the list has; "" if there is none. */
const char *docker_entry_name(const json_t *entry);

/* A time as the engine writes it, milliseconds since 1970; -1 = it is none. *ret_whole: without a fraction of a second. */
int64_t docker_time(const char *text, bool *ret_whole);
/* Can a file with this change time have been put into the container before it started, as compose does with `configs:`? An archive knows
 * whole seconds only; what a program writes has a fraction. */
bool docker_injected(const char *changed, const char *created, const char *started);
/* Paths of /containers/ID/changes that may be such files: leaves, outside of all mounts. New array of strings. */
json_t *docker_own_files(const json_t *changes, const json_t *inspect);

#endif
