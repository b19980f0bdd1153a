/**
 * The wire shapes of passes: short-lived words that open one thing. Types only.
 *
 *   POST   /v1/machines/:id/console-passes   ConsolePass: opens the machine's serial console, once
 *   POST   /v1/machines/:id/guest-passes     body GuestPassBody -> GuestPass: asks in the machine's name
 *   POST   /v1/passes/:id/renew              PassView     DELETE /v1/passes/:id
 *   POST   /v1/console                       header Drover-Pass; raw body to the console, raw answer from it
 *   POST   /v1/guest                         header Drover-Pass; body: one request of the guest protocol -> its response
 */

export interface PassView {
  id: string;
  machine_id: string;
  expires_at_ms: number;
}
export interface ConsolePass extends PassView {
  /** Shown this once. */
  pass: string;
}
export interface GuestPassBody {
  /** Methods of the guest protocol that it may use; absent: all. */
  methods?: string[];
  /** How long it is good for; ten minutes when absent, at most a day. */
  lasts_ms?: number;
}
export interface GuestPass extends ConsolePass {
  methods: string[];
}
