# METADATA
# title: Types of the contract
# description: >-
#   What `opa check` knows of input and data in every package below, an owner's own rules included: a misspelt field is
#   an error of the check, not a rule that never fires.
# scope: subpackages
# schemas:
#   - input: schema.input
#   - data.drover.constraints: schema.constraints
#   - data.drover.exemptions: schema.exemptions
package drover
