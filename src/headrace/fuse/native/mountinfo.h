/* What the stand-in and the probe need of paths and of mountinfo (proc_pid_mountinfo(5)). Both end soon after, so
 * nothing is freed. */

#ifndef HEADRACE_MOUNTINFO_H
#define HEADRACE_MOUNTINFO_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MOUNTINFO
#define MOUNTINFO "/proc/self/mountinfo" /* tests compile in a file of theirs */
#endif

struct mount {
    char *root, *point, *type;
};

static void *must(void *memory)
{
    if (memory == NULL) {
        perror("headrace");
        exit(1);
    }
    return memory;
}

/* Undo mountinfo's \ooo in place. */
static void unescape(char *text)
{
    char *to = text;
    for (char *from = text; *from; to++) {
        if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* Read one line into `found`; return 0 for a line that is none. Changes the line, which `found` points into. */
static int read_mount(char *line, struct mount *found)
{
    char *fields[6], *rest = strstr(line, " - ");
    if (rest == NULL)
        return 0;
    *rest = '\0';
    rest += 3;
    for (int i = 0; i < 6; i++) {
        fields[i] = strsep(&line, " ");
        if (fields[i] == NULL)
            return 0;
    }
    found->root = fields[3];
    found->point = fields[4];
    found->type = strsep(&rest, " \n");
    unescape(found->root);
    unescape(found->point);
    return 1;
}

/* Return all mounts of this process in their order, ended by one whose point is NULL; NULL when they cannot be read. */
static struct mount *read_mounts(void)
{
    FILE *file = fopen(MOUNTINFO, "re");
    size_t count = 0, size = 0;
    struct mount *all = must(calloc(1, sizeof *all));
    if (file == NULL)
        return NULL;
    for (char *line = NULL; getline(&line, &size, file) > 0; line = NULL, size = 0) {
        if (read_mount(line, &all[count])) {
            all = must(realloc(all, (++count + 1) * sizeof *all));
            memset(&all[count], 0, sizeof *all);
        }
    }
    fclose(file);
    return all;
}

/* Return `path` absolute and without `.`, `..` and double slashes; asks no file system. */
static char *absolute(const char *path)
{
    char *here = path[0] == '/' ? "" : must(getcwd(NULL, 0));
    char *joined = must(malloc(strlen(here) + strlen(path) + 2));
    char *clean = must(malloc(strlen(here) + strlen(path) + 3));
    size_t length = 0;
    sprintf(joined, "%s/%s", here, path);
    for (char *part = strtok(joined, "/"); part != NULL; part = strtok(NULL, "/")) {
        if (strcmp(part, "..") == 0) {
            while (length > 0 && clean[--length] != '/')
                ;
        } else if (strcmp(part, ".") != 0) {
            length += (size_t)sprintf(clean + length, "/%s", part);
        }
    }
    strcpy(clean + length, length > 0 ? "" : "/");
    return clean;
}

/* Tell whether `path` is `directory` or beneath it. */
static int is_beneath(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    if (strcmp(directory, "/") == 0)
        return 1;
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

#endif
