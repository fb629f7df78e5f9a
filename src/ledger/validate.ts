import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { type Freshness, freshnessAt, isUnmoved, type LedgerReading, type OpenLedger } from './ledger.js'
import { type DependencySnapshot, namesOf } from './snapshot.js'

/** Whether an entry with this snapshot still stands. The one place that judges a ledger's reading. */
export function validate(ledger: OpenLedger, snapshot: DependencySnapshot): MaybePromise<Freshness> {
  if (ledger.time !== undefined && isUnmoved(snapshot, ledger.time())) return 'fresh'
  const reading = ledger.read(namesOf(snapshot))
  return isPromise(reading)
    ? reading.then((later) => verdictOf(ledger, snapshot, later))
    : verdictOf(ledger, snapshot, reading)
}

function verdictOf(
  ledger: OpenLedger,
  snapshot: DependencySnapshot,
  reading: LedgerReading,
): MaybePromise<Freshness> {
  // Only an absent stamp is worth the second question, and only if the clock is the one of the snapshot.
  return ledger.restore !== undefined &&
    reading.now?.epoch === snapshot.epoch &&
    !isUnmoved(snapshot, reading.now) &&
    reading.stamps.includes(undefined)
    ? ledger.restore(snapshot)
    : freshnessAt(snapshot, reading)
}
