"""What is known of records besides their signals: risk, age, sex, who is held out, and more."""
