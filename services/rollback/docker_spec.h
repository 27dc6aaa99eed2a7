/* docker_spec.h - a container's create spec, out of what inspect says of it and of its image, and back. Pure.
 *
 * A spec is JSON of this service's own form:
 *   Image, RepoDigest, Platform   as it was deployed, and where to get it again
 *   Config, HostConfig            as for POST /containers/create, without what the image says by itself and without defaults
 *   Networks                      name -> endpoint settings, without what only one container has
 *   Unnamed                       destination -> volume without a name of its own (64 hexadecimal digits), as it was then
 *   Gaps                          what could not be recorded, one text each
 */
#ifndef REDOUBT_ROLLBACK_DOCKER_SPEC_H
#define REDOUBT_ROLLBACK_DOCKER_SPEC_H

#include "rollback/rollback_executor.h"
#include <jansson.h>

#define DOCKER_ID       65    /* a container's id */
#define DOCKER_PROJECT  129   /* a compose project */
#define DOCKER_SPEC_MAX 49152 /* of a version's record */

/* Labels of the containers that this service makes. */
#define DOCKER_LABEL            "io.redoubt."
#define DOCKER_LABEL_DEPLOYMENT DOCKER_LABEL "deployment"
#define DOCKER_LABEL_JOB        DOCKER_LABEL "job"
#define DOCKER_LABEL_VERSION    DOCKER_LABEL "version"
#define DOCKER_LABEL_SIDE       DOCKER_LABEL "side"
#define DOCKER_LABEL_INDEX      DOCKER_LABEL "index"
#define DOCKER_LABEL_HOME       DOCKER_LABEL "home"  /* the name that it takes in the end */
#define DOCKER_LABEL_IMAGE      DOCKER_LABEL "image" /* as it was deployed */
#define DOCKER_LABEL_DIGEST                                                                                          \
    DOCKER_LABEL "digest"                      /* the image that it was made of: a copy of the labels says another */
#define DOCKER_LABEL_RUN    DOCKER_LABEL "run" /* a command that is run once, of this job */
#define DOCKER_LABEL_OF     DOCKER_LABEL "of"  /* its deployment */
/* A label of an image. */
#define DOCKER_LABEL_SCHEMA DOCKER_LABEL "data-schema"
#define DOCKER_COMPOSE      "com.docker.compose."

/* NULL only if memory is out. `container` and `image` are what inspect says. */
json_t *docker_spec_make(const json_t *container, const json_t *image);
/* Adds to what could not be recorded. */
void docker_spec_gap(json_t *spec, const char *text);
/* All that cannot be carried over to a second container that stands beside the first, `port` being where the agent listens (0 = nowhere).
 * Returns how many there are; at most `max` are written. */
size_t docker_spec_gaps(const json_t *spec, int64_t port, char (*gap)[256], size_t max);
/* Does a list of port bindings name a port of the host? */
bool docker_port_fixed(const json_t *bindings);
/* Hash of the configuration: without what names one instance, and without what engine and compose change by themselves. buf of 65. */
const char *docker_spec_hash(const json_t *spec, char *buf);
/* Facts of the version: name, digest, config_hash, id, data_schema. */
void docker_spec_version(const json_t *spec, const json_t *image, struct rollback_version *ret);

/* The name that people gave it: without the slash, and without what settle added. buf of 129. */
const char *docker_plain_name(const char *name, char *buf);
/* Out of the way: `name`-rb-old-123456789abc. */
const char *docker_old_name(const char *name, const char *id, char *buf, size_t size);
bool docker_is_unnamed(const char *volume);

/* ---- back (docker_create.c) ---- */

struct docker_made {
    const char *deployment, *job, *version, *home;
    const char *image; /* id of the image that is really taken */
    int side;
    unsigned index;
    const json_t *volumes; /* destination -> name of a volume, for those without a name; may be NULL */
};
/* The body of POST /containers/create. What cannot be carried over is left out. */
json_t *docker_create_body(const json_t *spec, const struct docker_made *m);
/* The body for a command that is run once with the version's environment, volumes and first network. */
json_t *docker_run_body(const json_t *spec, const struct docker_made *m, const char *const *argv);
/* The network that a container is made in; "" if it has none that it could be connected to (host, none, the default bridge, another's). */
const char *docker_first_network(const json_t *spec);
/* The body of POST /networks/NAME/connect. */
json_t *docker_connect_body(const json_t *spec, const char *network, const char *container);

#endif
