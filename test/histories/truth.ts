import { closeSync, openSync, readSync, writeSync } from 'node:fs'

/** What is true, and what of it was acknowledged to be in the cache: numbers in a file that all processes see at once. */
export interface Truth {
  /** The version of the key's data. */
  version(key: number): number
  advance(key: number): number
  /** The version that no read which starts now may be older than. */
  acknowledged(key: number): number
  acknowledge(key: number, version: number): void
  /** Whether any process is creating the key at the moment. */
  beingMade(key: number): boolean
  making(key: number, me: number, on: boolean): void
  close(): void
}

const PLACES = 64

/** Every key has one process that changes its truth, so that nothing is lost between reading and writing it. */
export function openTruth(path: string, keys: number): Truth {
  const file = openSync(path, 'a+')
  closeSync(file)
  const fd = openSync(path, 'r+')
  const number = Buffer.alloc(8)
  const places = Buffer.alloc(PLACES)
  const read = (at: number): number => (readSync(fd, number, 0, 8, at) === 8 ? number.readDoubleLE(0) : 0)
  const write = (at: number, value: number) => {
    number.writeDoubleLE(value, 0)
    writeSync(fd, number, 0, 8, at)
  }
  return {
    version: (key) => read(key * 16),
    advance(key) {
      const next = read(key * 16) + 1
      write(key * 16, next)
      return next
    },
    acknowledged: (key) => read(key * 16 + 8),
    acknowledge: (key, version) => write(key * 16 + 8, version),
    beingMade(key) {
      const count = readSync(fd, places, 0, PLACES, keys * 16 + key * PLACES)
      return places.subarray(0, count).some((place) => place !== 0)
    },
    making: (key, me, on) => void writeSync(fd, Buffer.of(on ? 1 : 0), 0, 1, keys * 16 + key * PLACES + me),
    close: () => closeSync(fd),
  }
}
