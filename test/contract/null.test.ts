import { describe, it } from 'vitest'
import { nullBackend } from '../../backends/null.js'
import { backendCases, backendContract, type Skip } from '../../src/testing/index.js'
import { entries } from './values.js'

/** The cases that hold for a store that keeps nothing. The others need a value that is read back. */
const MET = new Set([
  'a key that was never written is a miss',
  'setMulti leaves the writes that it was given as they were',
  'it closes, twice without complaint',
  'once closed every operation settles, with an answer or an error',
  'a free lease is granted, with a token',
  'a token is unique for each grant',
  'a lease has one holder at a time',
  'of many callers that request a lease at once, one is granted it',
  'leases of different keys do not meet',
  'asking whether a lease is held does not take it',
  'a lease is released once, by its token only',
  'a lease is renewed by its token only',
  'a waiter is woken when its lease expires',
  'a fill is lost after a deletion, and leaves a miss',
  'a fill is lost after a deletion in a batch, and leaves a miss',
  'a token fills its own key only',
  'keys, if it lists them, are those of its entries that begin with a text',
  'a deletion says nothing or whether there was an entry',
  'a lease kept after a failure is taken over only if that creation began by the time that is given',
  'the time of a failure is kept exactly, or absent',
  'a lease kept after a failure can be taken over, and stolen',
  'a lease kept after a failure expires',
  'a lease is kept after a failure by its token only',
  'a lease kept after a failure is free after a deletion, and leaves a miss',
  'a lease kept after a failure is free after a deletion in a batch, and leaves a miss',
  'a lease kept after a failure is free after a write, and leaves the written value',
  'a lease kept after a failure is free after a write in a batch, and leaves the written value',
  'releasing one’s lease and asking again can be done over and over',
  'with `ifAbsent` an absent key is leased',
  'with `ifAbsent` an entry is brought, and no lease is taken or voided',
])

const skip: readonly Skip[] = backendCases
  .filter(({ name, needs }) => needs === undefined && !MET.has(name) && !name.startsWith('a waiter is woken'))
  .map(({ name }) => ({ case: name, reason: 'it keeps nothing' }))

backendContract('the null backend', () => nullBackend(), {
  values: entries(),
  runner: { describe, it },
  shares: true,
  skip,
})
