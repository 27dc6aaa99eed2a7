/* ping.c - what `redoubt ping` reads: who to ask, and what came back. */
#include "cli/ping.h"
#include <ctype.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SERVICE_PREFIX "redoubt-"

/* One token of a subject, as instances and services are called: no dot, no wildcard, nothing that is not printable. */
static bool token_ok(const char *s, size_t len, size_t max)
{
    if (len == 0 || len > max)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '-' && s[i] != '_')
            return false;
    return true;
}

int ping_read(const void *data, size_t len, struct ping_answer *ret)
{
    json_t *j = json_loadb(data, len, 0, NULL);
    const char *name = json_string_value(json_object_get(j, "name"));
    const char *id = json_string_value(json_object_get(j, "id"));
    const char *version = json_string_value(json_object_get(j, "version"));
    bool ok = name && id && version && strncmp(name, SERVICE_PREFIX, strlen(SERVICE_PREFIX)) == 0 &&
              token_ok(name, strlen(name), sizeof ret->name - 1) && token_ok(id, strlen(id), sizeof ret->id - 1);
    if (ok) {
        *ret = (struct ping_answer){.us = 0};
        snprintf(ret->name, sizeof ret->name, "%s", name);
        snprintf(ret->id, sizeof ret->id, "%s", id);
        snprintf(ret->version, sizeof ret->version, "%s", version);
    }
    json_decref(j);
    return ok ? 0 : -1;
}

int ping_subject_of(const char *line, char ret[static SUBJECT_MAX_LEN])
{
    size_t len = strcspn(line, "\r\n"), name = strcspn(line, ".");
    if (name >= len || strncmp(line, SERVICE_PREFIX, strlen(SERVICE_PREFIX)) != 0 ||
        !token_ok(line, name, NAME_MAX_LEN) || !token_ok(line + name + 1, len - name - 1, NAME_MAX_LEN))
        return -1;
    snprintf(ret, SUBJECT_MAX_LEN, "$SRV.PING.%.*s", (int)len, line);
    return 0;
}

int ping_subject(const char *service, const char *instance, char ret[static SUBJECT_MAX_LEN])
{
    if ((service && !token_ok(service, strlen(service), NAME_MAX_LEN)) ||
        (instance && (!service || !token_ok(instance, strlen(instance), NAME_MAX_LEN))))
        return -1;
    snprintf(ret, SUBJECT_MAX_LEN, "$SRV.PING%s%s%s%s", service ? "." SERVICE_PREFIX : "", service ? service : "",
             instance ? "." : "", instance ? instance : "");
    return 0;
}
