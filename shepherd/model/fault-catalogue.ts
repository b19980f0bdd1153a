/**
 * The one catalogue of fault codes, put together from its areas. A code is public: it stands in docs/errors.md (tested
 * both ways), in problem details, in diagnostics and in the journal. `{name}` in a title is filled from the details of
 * the occurrence. No two areas hold the same code.
 */
import { callFaults } from "#model/faults/api";
import { hostFaults } from "#model/faults/hosts";
import { labFaults } from "#model/faults/lab";
import { libvirtFaults } from "#model/faults/libvirt";
import { operationFaults } from "#model/faults/operations";
import { policyFaults } from "#model/faults/policy";

export const faultCatalogue = {
  ...callFaults,
  ...operationFaults,
  ...hostFaults,
  ...libvirtFaults,
  ...labFaults,
  ...policyFaults,
};
