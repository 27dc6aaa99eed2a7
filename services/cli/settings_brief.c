/* settings_brief.c - where the bus is, without reading the whole of a settings file.
 *
 * A health check runs every few seconds, and a file with thousands of agents takes long to read. The lines of `nats:` at the file's top
 * level, up to the next line that begins at its margin, are a file of their own; its services have checked the rest. */
#include "cli/settings_brief.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY       "nats:"
#define BLOCK_MAX 65536

static bool ends_block(const char *line)
{
    return !strchr(" \t\r\n#", *line);
}

/* The lines of the block; "" = there is none such. NULL if memory is out. */
static char *read_block(FILE *f)
{
    char *line = NULL, *block = calloc(1, BLOCK_MAX);
    size_t room = 0, n = 0;
    bool in = false;
    for (ssize_t len; block && (len = getline(&line, &room, f)) > 0;) {
        if (in && ends_block(line))
            break;
        in = in || strncmp(line, KEY, strlen(KEY)) == 0;
        if (!in)
            continue;
        if (n + (size_t)len >= BLOCK_MAX || strlen(line) != (size_t)len) {
            n = 0;
            break;
        }
        memcpy(block + n, line, (size_t)len);
        n += (size_t)len;
    }
    if (block)
        block[n] = 0;
    free(line);
    return block;
}

struct settings *settings_brief(const char *path)
{
    struct conf_field field = {0};
    for (size_t i = 0; i < settings_schema.n; i++)
        if (strcmp(settings_schema.fields[i].key, "nats") == 0)
            field = settings_schema.fields[i];
    const struct conf_schema schema = {
        .name = settings_schema.name, .size = settings_schema.size, .fields = &field, .n = field.key ? 1 : 0};
    FILE *f = field.key ? fopen(path, "re") : NULL;
    char *block = f ? read_block(f) : NULL;
    if (f)
        (void)fclose(f);
    struct settings *s = NULL;
    struct conf_report report = {0};
    /* An alias would name something outside of the block; then it is no YAML, and the whole file is read. */
    if (block && *block)
        s = conf_parse(&schema, path, block, strlen(block), &report);
    conf_report_free(&report);
    free(block);
    return s;
}
