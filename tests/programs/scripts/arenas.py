"""Processes that multiprocessing makes by fork: arrays, values, locks, conditions, a queue and a pool. Prints what they came to."""

import ctypes
import multiprocessing
import sys

ROUNDS = int(sys.argv[1])
context = multiprocessing.get_context("fork")


class Pair(ctypes.Structure):
    _fields_ = [("one", ctypes.c_long), ("other", ctypes.c_long)]


def step(number, rounds):
    for _ in range(rounds):
        number = (number * 6364136223846793005 + 1442695040888963407) % 2**61
    return number


def change(numbers, pair, turn, me, workers):
    for number in range(ROUNDS):
        with turn:
            turn.wait_for(lambda: pair.one % workers == me)
            numbers[me] = step(numbers[(me + 1) % workers] + number, 3000)
            assert pair.other == 3 * pair.one
            pair.one += 1
            pair.other += 3
            turn.notify_all()


def digest(number):
    return step(number, 20000)


if __name__ == "__main__":
    workers = 3
    numbers = context.Array("L", range(100))
    turn = context.Condition()
    pair = context.Value(Pair, 0, 0, lock=False)
    made = [context.Process(target=change, args=(numbers, pair, turn, me, workers)) for me in range(workers)]
    for process in made:
        process.start()
    for process in made:
        process.join()
    print([process.exitcode for process in made], pair.one, pair.other, list(numbers[:workers]))
    with context.Pool(3) as pool:
        print(sum(pool.map(digest, range(ROUNDS * 4), chunksize=2)) % 2**61)
    queue = context.Queue()
    maker = context.Process(target=lambda: [queue.put(step(number, 5000)) for number in range(ROUNDS)])
    maker.start()
    print(sum(queue.get() for _ in range(ROUNDS)) % 2**61)
    maker.join()
