import { asyncContext, type ContextFrame } from '../base/async-context.js'
import type { DependencyCollector } from './collector.js'

/** A transaction that `afterCommit` runs. */
export interface Transaction extends ContextFrame<Transaction> {
  /** Creations that read from this transaction. If it is rolled back, their results must not be stored. */
  readonly into: { add(collector: DependencyCollector): void }
}

const transactions = asyncContext<Transaction>('transactions')

/** Why a creation is not stored that read from a transaction without a known commit. */
export const UNDONE = 'it was made in a transaction that was rolled back or left'

/** The transaction around the caller: it may read older data than the latest commit, or data that is never committed. */
export const currentTransaction = transactions.current

/** Runs work outside of every transaction. */
export const leaveTransactions = transactions.leave

/** Records that a creation read from a transaction, and from those around it. The creation may be outside of them. */
export function recordTransactionRead(
  transaction: Transaction | undefined,
  collector: DependencyCollector,
): void {
  for (let from = transaction; from !== undefined; from = from.parent)
    if (from.over) collector.forbidStoring(UNDONE)
    else from.into.add(collector)
}
