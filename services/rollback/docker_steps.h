/* docker_steps.h - the next thing to be done until what is wanted stands. Pure: what stands in, one step out.
 *
 * Nothing is remembered between two steps but which containers were started: after a crash, and after what others did meanwhile, the next
 * look and the next step are right all the same. */
#ifndef REDOUBT_ROLLBACK_DOCKER_STEPS_H
#define REDOUBT_ROLLBACK_DOCKER_STEPS_H

#include "rollback/docker_look.h"

enum docker_goal { DOCKER_GOAL_UP, DOCKER_GOAL_START, DOCKER_GOAL_STOPPED, DOCKER_GOAL_SETTLED, DOCKER_GOAL_REMOVED };

struct docker_aim {
    enum docker_goal goal;
    const struct set_deployment *set;
    const char *job, *version;
    int side;
    unsigned count;
    const json_t *spec; /* NULL: nothing can be made, only what stands is started and stopped */
    char started[EXECUTOR_INSTANCES][DOCKER_ID]; /* by this act: who ended again is not started a second time */
    size_t n_started;
};

enum docker_act {
    DOCKER_DONE,
    DOCKER_CREATE,  /* name, home, index, volumes */
    DOCKER_CONNECT, /* id, network */
    DOCKER_START,   /* id */
    DOCKER_STOP,    /* id */
    DOCKER_RENAME,  /* id, name */
    DOCKER_REMOVE,  /* id */
    DOCKER_POLICY,  /* id, policy */
    DOCKER_REFUSE,  /* text, lasting */
};
struct docker_step {
    enum docker_act act;
    char id[DOCKER_ID], name[160], home[129], network[256];
    unsigned index;
    const json_t *volumes; /* destination -> volume; belongs to what stands, or to the spec; may be NULL */
    json_t *policy;        /* of the restart; a reference of its own */
    char text[400];
    bool lasting;
};
void docker_next(const struct docker_aim *aim, const struct docker_sight *s, struct docker_step *ret);

/* The name of the instance that a job makes; buf of 160. */
const char *docker_instance_name(const struct docker_aim *aim, unsigned index, char *buf);
/* The name of a command's container. */
const char *docker_run_name(const struct docker_aim *aim, const char *const *argv, char *buf);
/* The volumes without a name that instance `index` takes over: of the container whose place it takes. */
const json_t *docker_volumes_for(const struct docker_aim *aim, const struct docker_sight *s, unsigned index);

#endif
