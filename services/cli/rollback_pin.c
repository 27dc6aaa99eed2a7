/* rollback_pin.c - an override for compose that keeps a deployment on the version that runs. Pure.
 *
 * Strings are written as JSON, which YAML takes. An image that a registry has is named by its digest; one that was only ever built here by its tag. */
#include "cli/rollback_pin.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* For a comment: nothing that would end its line. */
static char *one_line(const char *text, char *buf, size_t size)
{
    snprintf(buf, size, "%s", text);
    for (char *p = buf; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = ' ';
    return buf;
}

static char *quoted(const char *text)
{
    json_t *s = json_string(text);
    char *out = json_dumps(s, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    json_decref(s);
    return out;
}

static char *write_text(const PB(VersionRecord) * rec, const char *service, const char *digest)
{
    char deployment[132], name[132], *out = NULL;
    const char *image = *digest ? digest : rec->image;
    char *q_service = quoted(service), *q_image = quoted(image);
    size_t size = q_service && q_image ? strlen(q_service) + strlen(q_image) + 600 : 0;
    if (size && (out = malloc(size)))
        snprintf(
            out, size,
            "# %s stays on %s, whatever the compose file names: put this file behind it (-f, or COMPOSE_FILE) "
            "until that is right.\n%s"
            "services:\n  %s:\n    image: %s\n",
            one_line(rec->deployment, deployment, sizeof deployment), one_line(rec->version->name, name, sizeof name),
            *digest ? "" : "# No registry is known to have this image: do not move its tag.\n", q_service, q_image);
    free(q_service);
    free(q_image);
    return out;
}

char *rollback_pin_text(const PB(VersionRecord) * rec, struct err *e)
{
    char *out = NULL;
    json_t *spec = strcmp(rec->executor, "docker") == 0 && rec->version
                       ? json_loadb((const char *)rec->spec.data, rec->spec.len, 0, NULL)
                       : NULL;
    const json_t *labels = json_object_get(json_object_get(spec, "Config"), "Labels");
    const char *service = text_of(labels, "com.docker.compose.service");
    if (strcmp(rec->executor, "docker") != 0)
        err_set(e, "%.100s is run by executor %.40s: only services of compose are pinned by a file of compose",
                rec->deployment, rec->executor);
    else if (!*service || !*rec->image)
        err_set(e, "%.100s was not made by compose: pin its image where it is deployed", rec->deployment);
    else if (!(out = write_text(rec, service, text_of(spec, "RepoDigest"))))
        err_set(e, "the record of %.100s holds text that is no UTF-8", rec->deployment);
    json_decref(spec);
    return out;
}
