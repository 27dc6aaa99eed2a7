/* err.h - an error's text: what, where, what to do. Library code fills it; its caller logs it once. */
#ifndef REDOUBT_ERR_H
#define REDOUBT_ERR_H

#define ERR_TEXT_MAX 512

struct err {
    char text[ERR_TEXT_MAX];
};
/* Writes the text (cut if too long) and returns -1, so that `return err_set(e, ...)` reads well. e may be NULL. */
__attribute__((format(printf, 2, 3))) int err_set(struct err *e, const char *fmt, ...);

#endif
