import { closeSync, openSync, readSync, writeSync } from 'node:fs'

/** The data that caches are filled from: a version for each row, in a file that all processes see at once. */
export interface Truth {
  version(row: number): number
  /** Returns a version that includes the change. Every process may change every row. */
  advance(row: number): number
  /** The version that no read which starts now may be older than. One process acknowledges a row. */
  acknowledged(row: number): number
  acknowledge(row: number, version: number): void
  close(): void
}

/** Numbers of a row: one for the changes of each process, so that none overwrites another's; the last is acknowledged. */
const NUMBERS = 8

export function openTruth(path: string, process = 0): Truth {
  closeSync(openSync(path, 'a+'))
  const file = openSync(path, 'r+')
  const bytes = Buffer.alloc(NUMBERS * 8)
  const read = (row: number): number[] => {
    bytes.fill(0)
    readSync(file, bytes, 0, bytes.length, row * bytes.length)
    return Array.from({ length: NUMBERS }, (_, i) => bytes.readDoubleLE(i * 8))
  }
  const write = (row: number, number: number, value: number) => {
    bytes.writeDoubleLE(value, 0)
    writeSync(file, bytes, 0, 8, (row * NUMBERS + number) * 8)
  }
  const version = (row: number) =>
    read(row)
      .slice(0, -1)
      .reduce((sum, changes) => sum + changes, 0)
  return {
    version,
    advance(row) {
      write(row, process, (read(row)[process] as number) + 1)
      return version(row)
    },
    acknowledged: (row) => read(row)[NUMBERS - 1] as number,
    acknowledge: (row, acknowledged) => write(row, NUMBERS - 1, acknowledged),
    close: () => closeSync(file),
  }
}
