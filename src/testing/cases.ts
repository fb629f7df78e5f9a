import type { Case } from './context.js'
import { entryCases } from './entry-cases.js'
import { leaseCases } from './lease-cases.js'
import { ledgerCases } from './ledger-cases.js'

/** What every backend does, whatever it stores in. Data: each case has a name, a need and a run. */
export const backendCases: readonly Case[] = [...entryCases, ...leaseCases, ...ledgerCases]
