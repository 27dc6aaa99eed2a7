/* main.c - redoubt-continuity. */
#include "continuity/continuity_shell.h"

int main(int argc, char **argv)
{
    return service_main(argc, argv, &continuity_service);
}
