"""edgevl.quantize: calibrate or train once, then place Q/DQ in each target's dialect. Not built yet."""
