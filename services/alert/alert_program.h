/* alert_program.h - may this program be run for an alert? Nobody but root and the service's own user may be able to change it. */
#ifndef REDOUBT_ALERT_PROGRAM_H
#define REDOUBT_ALERT_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

/* False with the reason in why: no such file, not a program, or somebody else could put another in its place. */
bool alert_program_ok(const char *path, char *why, size_t size);

#endif
