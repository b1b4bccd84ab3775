"""Tables and pages made from what stages wrote."""
