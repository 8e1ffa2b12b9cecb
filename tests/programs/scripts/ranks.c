// Four ranks: rings, sums of all, and a matrix that is handed round.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    MPI_Init(&count, &words);
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    enum { LENGTH = 20000, ROUNDS = 300 };
    double *values = malloc(sizeof(double) * LENGTH);
    for (int at = 0; at < LENGTH; at++) {
        values[at] = at % 31 + rank;
    }
    double total = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double sum = 0, all;
        for (int at = 0; at < LENGTH; at++) {
            values[at] = values[at] * 0.5 + at % 7;
            sum += values[at];
        }
        MPI_Allreduce(&sum, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        total += all;
        MPI_Sendrecv_replace(values, LENGTH, MPI_DOUBLE, (rank + 1) % size, 0, (rank + size - 1) % size, 0,
                             MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    if (rank == 0) {
        printf("%d ranks: %.3f\n", size, total);
    }
    MPI_Finalize();
    return 0;
}
